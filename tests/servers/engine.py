"""The Docker Engine in whose containers the test fleets live: one for all test processes of a user.

Who comes first starts it, who leaves last stops it. Its folder, socket, bridges and containerd namespace are its own,
and it changes no packet filter: another engine of the machine sees nothing of it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import docker
from docker.errors import APIError, DockerException

from tests.servers.cache import cache_folder

LABEL = "evc.fleet"
_PACKAGE = "docker.io"
_TIMEOUT_S = 60


@contextmanager
def running_engine() -> Iterator[docker.DockerClient]:
    """Yield a client of the engine, which runs at least until the block ends.

    :raises RuntimeError: it does not start; the message ends with its log
    """
    folder = cache_folder() / "engine"
    folder.mkdir(exist_ok=True)
    # its users hold the one lock, shared; starting and stopping is for the holder of the other
    with (folder / "users.lock").open("w") as users, (folder / "gate.lock").open("w") as gate:
        with _locked(gate.fileno()):
            if _is_alone(users.fileno()):
                _start(folder)
                _remove_leftovers(folder)
            fcntl.flock(users, fcntl.LOCK_SH)
        client = _connect(folder)
        try:
            yield client
        finally:
            client.close()
            with _locked(gate.fileno()):
                fcntl.flock(users, fcntl.LOCK_UN)
                if _is_alone(users.fileno()):
                    _stop(folder)


def remove_fleet(client: docker.DockerClient, label: str = LABEL) -> None:
    """Remove every container and network that bears ``label``, running or not."""
    for container in client.containers.list(all=True, filters={"label": label}, ignore_removed=True):
        with suppress(docker.errors.NotFound):
            container.remove(force=True, v=True)
    for network in client.networks.list(filters={"label": label}):
        with suppress(docker.errors.NotFound):
            network.remove()


@contextmanager
def _locked(lock: int) -> Iterator[None]:
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)


def _is_alone(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _connect(folder: Path) -> docker.DockerClient:
    return docker.DockerClient(base_url=f"unix://{folder / 'docker.sock'}", version="1.41", timeout=120)


def _answers(folder: Path) -> bool:
    try:
        client = _connect(folder)
        with suppress(APIError):
            return bool(client.ping())
    except (DockerException, OSError):
        pass
    return False


def _start(folder: Path) -> None:
    """Start it unless one that was left behind still answers."""
    if _answers(folder):
        return
    _stop(folder)
    (folder / "daemon.json").write_text("{}")
    command = [
        "setsid", "--fork", _binary(),
        "--config-file", folder / "daemon.json",
        "--data-root", folder / "data",
        "--exec-root", folder / "exec",
        "--pidfile", folder / "docker.pid",
        "--host", f"unix://{folder / 'docker.sock'}",
        "--containerd-namespace", "evc", "--containerd-plugins-namespace", "evc-plugins",
        "--bridge", "none", "--iptables=false", "--ip6tables=false",
        "--log-level", "warn",
    ]  # fmt: skip
    with (folder / "dockerd.log").open("wb") as log:
        subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)
    deadline = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < deadline:
        if _answers(folder):
            return
        time.sleep(0.05)
    _stop(folder)
    raise RuntimeError(f"dockerd did not start: {(folder / 'dockerd.log').read_text()[-2000:]}")


def _binary() -> str:
    found = shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if not found:
        raise RuntimeError(f"no dockerd: install the Debian package {_PACKAGE!r}")
    return found


def _remove_leftovers(folder: Path) -> None:
    """Remove what fleets left behind whose processes were killed: nobody uses the engine now."""
    client = _connect(folder)
    remove_fleet(client)
    client.close()
    shutil.rmtree(cache_folder() / "fleets", ignore_errors=True)


def _stop(folder: Path) -> None:
    """End the engine and its containerd by their pids; a pid file may also be older than the machine's boot."""
    for pid_file in (folder / "docker.pid", folder / "exec" / "containerd" / "containerd.pid"):
        with suppress(OSError, ValueError):
            _end(int(pid_file.read_text()), pid_file.stem, folder)
        pid_file.unlink(missing_ok=True)


def _end(pid: int, program: str, folder: Path) -> None:
    for number, patience_s in ((signal.SIGTERM, 20.0), (signal.SIGKILL, 5.0)):
        if _runs(pid, program, folder):
            os.kill(pid, number)
        deadline = time.monotonic() + patience_s
        while _runs(pid, program, folder) and time.monotonic() < deadline:
            time.sleep(0.02)


def _runs(pid: int, program: str, folder: Path) -> bool:
    command = Path(f"/proc/{pid}/cmdline").read_bytes()  # empty for one that has ended and nobody has asked for
    return program.encode() in command and str(folder).encode() in command
