"""Processes by pid and start time, on real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from demo.process import Process, family, find, is_running, listens, stop


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that a test starts; killed with their sessions at its end."""
    children: list[subprocess.Popen[str]] = []
    yield children
    for child in children:
        for process in stop([Process(child.pid, _started(child.pid))], patience_s=0):
            pytest.fail(f"{process} would not end")
        child.wait()


def _started(pid: int) -> str:
    found = find(pid)
    return found.started if found else _process(os.getpid()).started


def _shell(started: list[subprocess.Popen[str]], script: str) -> subprocess.Popen[str]:
    """Run ``script`` in a session of its own; it prints a line when it is ready."""
    child = subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True)
    started.append(child)
    return child


def _line(child: subprocess.Popen[str]) -> str:
    assert child.stdout
    return child.stdout.readline().strip()


def _process(pid: int) -> Process:
    found = find(pid)
    assert found
    return found


def test_a_process_is_found_with_a_start_of_its_own(started: list[subprocess.Popen[str]]) -> None:
    first = _process(_shell(started, "exec sleep 60").pid)
    time.sleep(0.05)
    second = _process(_shell(started, "exec sleep 60").pid)
    assert first.pid != second.pid
    assert first.started != second.started
    assert is_running(first)


def test_a_process_that_ended_is_not_running(started: list[subprocess.Popen[str]]) -> None:
    child = _shell(started, "exec sleep 60")
    process = _process(child.pid)
    child.kill()
    child.wait()
    assert not is_running(process)


def test_a_zombie_is_not_running(started: list[subprocess.Popen[str]]) -> None:
    child = _shell(started, "exec sleep 60")
    process = _process(child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, still to be asked for
    assert not is_running(process)


@pytest.mark.parametrize("started_at", ["another-boot/17", "{boot}/17"])
def test_a_reused_pid_is_left_alone(started: list[subprocess.Popen[str]], started_at: str) -> None:
    child = _shell(started, "exec sleep 60")
    boot = _process(child.pid).started.partition("/")[0]
    recorded = Process(child.pid, started_at.format(boot=boot))
    assert not is_running(recorded)
    assert family([recorded]) == set()
    assert stop([recorded], patience_s=1) == set()
    assert child.poll() is None


def test_a_name_with_parentheses_and_spaces_is_read(started: list[subprocess.Popen[str]]) -> None:
    rename = "import ctypes, time; ctypes.CDLL(None).prctl(15, b') Z 1 (', 0, 0, 0)"
    script = f"{rename}; print('ready', flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True)
    started.append(child)
    assert _line(child) == "ready"
    assert is_running(_process(child.pid))
    assert _process(child.pid) in family([_process(os.getpid())])


def test_children_and_their_sessions_belong_to_the_family(started: list[subprocess.Popen[str]]) -> None:
    child = _shell(started, "sleep 60 & echo $!; setsid sh -c 'echo $$; exec sleep 60' & wait")
    pids = {child.pid, int(_line(child)), int(_line(child))}
    assert {process.pid for process in family([_process(child.pid)])} >= pids


def test_stop_ends_all_of_it(started: list[subprocess.Popen[str]]) -> None:
    child = _shell(started, "sleep 60 & echo $!; setsid sh -c 'echo $$; exec sleep 60' & wait")
    others = [_process(int(_line(child))), _process(int(_line(child)))]
    assert stop([_process(child.pid)]) == set()
    assert [other for other in others if is_running(other)] == []
    child.wait(5)


def test_stop_kills_what_ignores_the_request(started: list[subprocess.Popen[str]]) -> None:
    child = _shell(started, "trap '' TERM; echo ready; while :; do sleep 1; done")
    assert _line(child) == "ready"
    assert stop([_process(child.pid)], patience_s=0.5) == set()
    assert child.wait(5) == -signal.SIGKILL


def test_what_a_dead_root_left_in_its_session_is_found_and_ended(started: list[subprocess.Popen[str]]) -> None:
    child = _shell(started, "sleep 60 & echo $!; wait")
    orphan = _process(int(_line(child)))
    root = _process(child.pid)
    child.kill()
    child.wait()
    assert family([root]) == {orphan}
    assert stop([root]) == set()
    assert not is_running(orphan)


def test_what_began_before_a_root_is_not_of_it() -> None:
    # the session of this test run is older than a process that claims to lead it
    this = _process(os.getpid())
    later = Process(os.getsid(0), f"{this.started.partition('/')[0]}/{10**15}")
    assert this not in family([later])


@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.0.0.1"])
def test_who_listens_at_a_port_is_known(started: list[subprocess.Popen[str]], address: str) -> None:
    other = _process(_shell(started, "exec sleep 60").pid)
    family_of = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family_of) as server:
        server.bind((address, 0))
        port = server.getsockname()[1]
        assert listens([_process(os.getpid())], port) is None
        server.listen()
        assert listens([other, _process(os.getpid())], port) is True
        assert listens([other], port) is False
