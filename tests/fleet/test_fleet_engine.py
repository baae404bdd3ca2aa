"""The engine that all test fleets share: who starts it, who stops it, what a crash leaves."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.engine import running_engine

PROJECT = Path(__file__).parents[2]
# says so once it is in, and leaves at the end of its input
USER = """
import sys
from tests.servers.engine import running_engine
with running_engine() as client:
    print(client.info()["ID"], flush=True)
    sys.stdin.read()
    client.ping()
"""

pytestmark = [
    pytest.mark.fleet,
    pytest.mark.xdist_group("fleet"),
    pytest.mark.skipif(os.geteuid() != 0, reason="an engine needs root"),
]


@pytest.fixture
def engine_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of an engine that no other test has; its path is short, as those of sockets must be."""
    cache = Path(tempfile.mkdtemp(prefix="evc-"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    yield cache / "evc" / "engine"
    shutil.rmtree(cache)


def programs(folder: Path) -> dict[str, int]:
    """Return the pids of the programs that run with this folder, by name."""
    found = {}
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = command.read_bytes().split(b"\0")
        except OSError:
            continue
        if any(str(folder).encode() in word for word in words[1:]):
            found[Path(words[0].decode()).name] = int(command.parent.name)
    return found


def test_it_ends_with_its_user_and_keeps_what_it_has(engine_folder: Path) -> None:
    with running_engine() as client:
        first = client.info()["ID"]
        assert programs(engine_folder).keys() == {"dockerd", "containerd"}
        assert client.networks.list(names=["bridge"]) == []
    assert not programs(engine_folder)
    with running_engine() as client:
        assert client.info()["ID"] == first


def test_users_that_come_together_share_it(engine_folder: Path) -> None:
    users = [
        subprocess.Popen(
            [sys.executable, "-c", USER], cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    try:
        ids = {user.stdout.readline() for user in users if user.stdout}
        assert len(ids) == 1
        pids = programs(engine_folder)
        for user in users[:-1]:
            user.communicate()
        assert programs(engine_folder) == pids  # whoever was first, one is still there
        users[-1].communicate()
        assert [user.returncode for user in users] == [0] * len(users)
        assert not programs(engine_folder)
    finally:
        for user in users:
            user.kill()
            user.wait()


@pytest.mark.parametrize("killed", [["dockerd"], ["dockerd", "containerd"]])
def test_a_dead_one_is_started_anew(engine_folder: Path, killed: list[str]) -> None:
    with running_engine():
        pids = programs(engine_folder)
        for name in killed:
            os.kill(pids[name], signal.SIGKILL)
    with running_engine() as client:
        assert client.ping()
        assert programs(engine_folder)["dockerd"] != pids["dockerd"]
    assert not programs(engine_folder)


def test_a_live_one_that_was_left_behind_is_used_and_ended(engine_folder: Path) -> None:
    user = subprocess.Popen(
        [sys.executable, "-c", USER], cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert user.stdout
    user.stdout.readline()
    user.kill()
    user.communicate()
    pids = programs(engine_folder)
    assert pids.keys() == {"dockerd", "containerd"}
    with running_engine():
        assert programs(engine_folder) == pids
    assert not programs(engine_folder)


def test_a_pid_that_another_process_has_now_is_not_killed(engine_folder: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        for pid_file in (engine_folder / "docker.pid", engine_folder / "exec" / "containerd" / "containerd.pid"):
            pid_file.parent.mkdir(parents=True, exist_ok=True)
            pid_file.write_text(str(other.pid))
        with running_engine() as client:
            assert client.ping()
        assert other.poll() is None
        other.kill()


def test_one_that_cannot_start_says_why(engine_folder: Path) -> None:
    engine_folder.mkdir(parents=True)
    (engine_folder / "data").write_text("not a folder")
    with (
        pytest.raises(RuntimeError, match=r"(?s)dockerd did not start:.*engine/data.* points to a file"),
        running_engine(),
    ):
        pass
    assert not programs(engine_folder)
