"""The Docker Engine in whose containers the test fleets live: one for all test processes of a user.

Who comes first starts it, who leaves last stops it. Its folder, socket, bridges and containerd namespace are its own,
and it changes no packet filter: another engine of the machine sees nothing of it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, DockerException, NotFound

from tests.servers.cache import cache_folder
from tests.servers.programs import SEARCH_PATH, program

LABEL = "evc.fleet"
_TIMEOUT_S = 60
_started: list[subprocess.Popen[bytes]] = []  # another process may end them: they are waited for by nobody


def shared_socket() -> Path:
    """Return where the engine of :func:`running_engine` listens."""
    return cache_folder() / "engine" / "docker.sock"


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
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            with closing(_connect(folder)) as client:
                with _locked(gate.fileno()):
                    _remove_leftovers(client)
                yield client
        finally:
            with _locked(gate.fileno()):
                fcntl.flock(users, fcntl.LOCK_UN)
                if _is_alone(users.fileno()):
                    _stop(folder)


@contextmanager
def engine_of_its_own(folder: Path, bridge: str) -> Iterator[docker.DockerClient]:
    """Yield a client of another engine, which ends with the block.

    :param folder: where its data and ``docker.sock`` are
    :param bridge: network interface of its default network
    :raises RuntimeError: it does not start; the message ends with its log
    """
    _start(folder, bridge)
    try:
        with closing(_connect(folder)) as client:
            yield client
    finally:
        _stop(folder)


@contextmanager
def owned_fleet(client: docker.DockerClient) -> Iterator[tuple[str, Path]]:
    """Yield the id and the folder of a new fleet. What bears the id as its label is removed at the end, the folder too.

    Where this process is killed before the end, whoever uses the engine next does it.
    """
    fleet_id = secrets.token_hex(4)
    with _fleet_lock_file(fleet_id).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = _fleets() / fleet_id
        folder.mkdir(mode=0o700)
        try:
            yield fleet_id, folder
        finally:
            remove_fleet(client, fleet_id)


def remove_fleet(client: docker.DockerClient, fleet_id: str) -> None:
    """Remove all that there is of a fleet."""
    label = f"{LABEL}={fleet_id}"
    for container in client.containers.list(all=True, filters={"label": label}, ignore_removed=True):
        with suppress(NotFound):
            container.remove(force=True, v=True)
    for network in client.networks.list(filters={"label": label}):
        with suppress(NotFound):
            network.remove()
    shutil.rmtree(_fleets() / fleet_id, ignore_errors=True)
    _fleet_lock_file(fleet_id).unlink(missing_ok=True)


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
    return docker.DockerClient(base_url=f"unix://{folder / 'docker.sock'}", timeout=120)


def _answers(folder: Path) -> bool:
    try:
        client = _connect(folder)
        with suppress(APIError):
            return bool(client.ping())
    except (DockerException, OSError):
        pass
    return False


def _start(folder: Path, bridge: str = "none") -> None:
    """Start it unless one that was left behind still answers."""
    if _answers(folder):
        return
    _stop(folder)
    (folder / "daemon.json").write_text("{}")
    command = [
        program("dockerd", "docker.io"),
        "--config-file", folder / "daemon.json",
        "--data-root", folder / "data",
        "--exec-root", folder / "exec",
        "--pidfile", folder / "docker.pid",
        "--host", f"unix://{folder / 'docker.sock'}",
        "--containerd-namespace", "evc", "--containerd-plugins-namespace", "evc-plugins",
        "--bridge", bridge, "--iptables=false", "--ip6tables=false",
        "--log-level", "warn",
    ]  # fmt: skip
    with (folder / "dockerd.log").open("wb") as log:
        environment = os.environ | {"PATH": SEARCH_PATH}  # it runs containerd and runc
        arguments = [str(part) for part in command]
        dockerd = subprocess.Popen(
            arguments, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    _started.append(dockerd)
    deadline = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < deadline and dockerd.poll() is None:
        if _answers(folder):
            return
        time.sleep(0.05)
    _stop(folder)
    raise RuntimeError(f"dockerd did not start: {(folder / 'dockerd.log').read_text()[-2000:]}")


def _remove_leftovers(client: docker.DockerClient) -> None:
    """Remove what fleets left behind whose processes were killed."""
    owned = [*client.containers.list(all=True, ignore_removed=True), *client.networks.list()]
    found = {str(label) for thing in owned if (label := _labels(thing.attrs).get(LABEL))}
    for fleet_id in found | {path.name for path in _fleets().iterdir() if path.is_dir()}:
        with _fleet_lock_file(fleet_id).open("a") as lock:
            if _is_alone(lock.fileno()):
                remove_fleet(client, fleet_id)


def _labels(attributes: dict[str, Any]) -> dict[str, str]:
    """Return the labels of a container, which has them in its configuration, or of a network."""
    return attributes.get("Labels") or attributes.get("Config", {}).get("Labels") or {}


def _fleets() -> Path:
    folder = cache_folder() / "fleets"
    folder.mkdir(exist_ok=True)
    return folder


def _fleet_lock_file(fleet_id: str) -> Path:
    return _fleets() / f"{fleet_id}.lock"


def _stop(folder: Path) -> None:
    """End the engine and its containerd by their pids; a pid file may also be older than the machine's boot."""
    for pid_file in (folder / "docker.pid", folder / "exec" / "containerd" / "containerd.pid"):
        with suppress(OSError, ValueError):
            _end(int(pid_file.read_text()), pid_file.stem, folder)
        pid_file.unlink(missing_ok=True)
    # one that was killed has left its mounts
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in reversed([mount for mount in mounts if mount.startswith(f"{folder}/")]):
        subprocess.run(["umount", "--lazy", mount], check=True)


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
