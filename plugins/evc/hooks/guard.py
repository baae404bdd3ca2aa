"""Runs one command and ends with all that it started: ``guard.py FOLDER PARENT COMMAND...``, a program of its own.

Ansible puts its workers, and ssh the connections it shares, into sessions of their own: no signal to a process group
reaches them all. Here every descendant that loses its parent becomes a child of this process
(``PR_SET_CHILD_SUBREAPER``), so all of them are found. They are ended when the command is over, at SIGTERM, and when
PARENT is gone, be it by SIGKILL: then FOLDER, which holds secrets, is removed too.

None of them gets more than MEMORY_BYTES: Ansible keeps all that a host prints, and a host may print without end.

FOLDER/guard.pid holds the pid to send SIGTERM to.

Source: prctl(2), setrlimit(2), proc(5).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shutil
import signal
import sys
import time
from pathlib import Path
from types import FrameType

PID_FILE = "guard.pid"
MEMORY_BYTES = 2 * 1024**3
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36
_PATIENCE_S = 1.0
_LIMIT_S = 20.0


class _Told(BaseException):
    """Someone told this process to end, or its parent has."""


def _end(signum: int, frame: FrameType | None) -> None:
    raise _Told


def _descendants() -> list[int]:
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(stat.parent.name))
    found, waiting = list[int](), [os.getpid()]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _reap() -> bool:
    """Take note of children that have ended; returns whether there are others."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _end_descendants() -> None:
    """SIGTERM first: a shared connection then removes its socket."""
    started = time.monotonic()
    while _reap():
        waited_s = time.monotonic() - started
        if waited_s > _LIMIT_S:
            return  # hangs in the kernel, e.g. on a dead network file system
        for pid in _descendants():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM if waited_s < _PATIENCE_S else signal.SIGKILL)
        time.sleep(0.01 if waited_s < 0.1 else 0.05)


def _limit_memory() -> None:
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def _run(command: list[str]) -> int:
    pid = os.posix_spawn(command[0], command, os.environ, setsigdef=[signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
    while True:
        ended, status = os.wait()
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def main(argv: list[str]) -> int:
    """Run the command; returns its exit status, 143 where it was told to end."""
    folder, parent, command = Path(argv[1]), int(argv[2]), argv[3:]
    status = 143
    os.umask(0o077)
    try:
        for ignored in (signal.SIGHUP, signal.SIGINT):
            signal.signal(ignored, signal.SIG_IGN)  # the terminal vanishes with the parent
        signal.signal(signal.SIGTERM, _end)
        libc = ctypes.CDLL(None)
        libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        libc.prctl(_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        _limit_memory()
        (folder / PID_FILE).write_text(str(os.getpid()))
        if os.getppid() == parent:
            status = _run(command)
    except _Told:
        pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end_descendants()
        if os.getppid() != parent:
            shutil.rmtree(folder, ignore_errors=True)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv))
