"""Processes by pid and start time, so that a reused pid is never taken for ours.

Source: ``/proc/PID/stat``, proc_pid_stat(5).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """One process of this boot.

    :param started: boot id and clock ticks since then
    """

    pid: int
    started: str


@dataclass(frozen=True, slots=True)
class _Row:
    process: Process
    parent: int
    session: int
    ticks: int


def _boot_id() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def _row(pid: int, boot_id: str) -> _Row | None:
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # the name may hold spaces and parentheses; what follows its last ")" begins with field 3
    state, parent, _group, session, *rest = stat.rpartition(")")[2].split()
    if state in "ZX":  # ended, its parent has only not asked yet
        return None
    ticks = int(rest[15])
    return _Row(Process(pid, f"{boot_id}/{ticks}"), int(parent), int(session), ticks)


def find(pid: int) -> Process | None:
    """Return the running process ``pid``; None where there is none."""
    row = _row(pid, _boot_id())
    return row.process if row else None


def is_running(process: Process) -> bool:
    """Whether it is still that process."""
    return find(process.pid) == process


def _rows() -> dict[int, _Row]:
    boot_id = _boot_id()
    rows = (_row(int(entry.name), boot_id) for entry in _PROC.iterdir() if entry.name.isdigit())
    return {row.process.pid: row for row in rows if row}


def _belongs(row: _Row, known: dict[int, Process], rows: dict[int, _Row]) -> bool:
    """Whether ``row`` is one of ``known``, a child of one, or of a session that one of them leads or led."""
    if known.get(row.process.pid) == row.process:
        return True
    for number in (row.parent, row.session):
        leader = known.get(number)
        if leader is None:
            continue
        # a pid is not given again while a session bears it; what is older than the leader is not of its session
        there = rows.get(number)
        if there.process == leader if there else row.ticks >= int(leader.started.rpartition("/")[2]):
            return True
    return False


def family(roots: Iterable[Process]) -> set[Process]:
    """Return what runs of ``roots``, their descendants, and the sessions they began, also where a root has ended."""
    boot_id, rows = _boot_id(), _rows()
    known = {root.pid: root for root in roots if root.started.startswith(f"{boot_id}/")}
    found: set[Process] = set()
    while more := {row.process for row in rows.values() if row.process not in found and _belongs(row, known, rows)}:
        found |= more
        known |= {process.pid: process for process in more}
    return found


def _listening_sockets(port: int) -> set[str]:
    """Return the sockets that listen at ``port`` of any address of this machine, as /proc/PID/fd names them."""
    found = set()
    for table in (_PROC / "net/tcp", _PROC / "net/tcp6"):  # the second is missing where there is no IPv6
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            _, local, _, state, *rest = line.split()
            if state == "0A" and int(local.rpartition(":")[2], 16) == port:
                found.add(f"socket:[{rest[5]}]")
    return found


def _open_files(process: Process) -> Iterator[str]:
    with suppress(OSError):
        for entry in (_PROC / str(process.pid) / "fd").iterdir():
            with suppress(OSError):
                yield str(entry.readlink())


def listens(processes: Iterable[Process], port: int) -> bool | None:
    """Whether one of ``processes`` listens at ``port``; None where nobody does.

    Source: ``/proc/net/tcp``, proc_net_tcp(5).
    """
    sockets = _listening_sockets(port)
    if not sockets:
        return None
    return any(name in sockets for process in processes for name in _open_files(process))


def _send(process: Process, number: signal.Signals) -> None:
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        # the handle stays with the process it was opened for, so what is found now is what gets the signal
        if is_running(process):
            signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)


def stop(roots: Iterable[Process], patience_s: float = 5) -> set[Process]:
    """End ``roots`` and all that came of them, with SIGTERM, then SIGKILL; return what would not end."""
    seen = set(roots)
    for number, wait_s in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + wait_s
        signalled: set[Process] = set()
        while running := family(seen):
            seen |= running
            for process in running - signalled:
                _send(process, number)
            signalled |= running
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        else:
            return set()
    return family(seen)
