"""The stack of ``docker-compose.yaml``, started as a user does, from a copy of this checkout, on a test's engine."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from docker.models.containers import Container
from docker.models.volumes import Volume

from demo.api import Api
from tests.servers.stack_images import POSTGRES_IMAGE, PYTHON_IMAGE, REGISTRY_IMAGE

PROJECT = Path(__file__).parents[2]
_TIMEOUT_S = 1200  # the first time it installs Airflow
_ASK = """
import json, os, psycopg
print(json.dumps(psycopg.connect(os.environ["URL"]).execute(os.environ["SQL"]).fetchall()))
"""


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack in a folder of its own."""

    folder: Path
    socket: Path
    client: docker.DockerClient

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``tools/stack.sh``."""
        environment = {
            "PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "DOCKER_HOST": f"unix://{self.socket}",
        }  # fmt: skip
        done = subprocess.run(
            ["tools/stack.sh", *words],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def docker(self, *words: str, given: bytes | None = None) -> bytes:
        """Run the docker command as an operator does; returns what it printed."""
        environment = {"PATH": os.environ["PATH"], "DOCKER_HOST": f"unix://{self.socket}"}
        done = subprocess.run(
            ["docker", *words], input=given or b"", env=environment, capture_output=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout

    def settings(self) -> dict[str, str]:
        """Return what ``.env`` says."""
        lines = (self.folder / ".env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    def api(self) -> Api:
        """Return Airflow's API, as the admin."""
        said = self.settings()
        return Api(f"http://127.0.0.1:{said['EVC_AIRFLOW_PORT']}", "admin", said["EVC_ADMIN_PASSWORD"])

    def container(self, service: str) -> Container:
        """Return the container of a service."""
        found = {container.labels["com.docker.compose.service"]: container for container in self.containers()}
        return found[service]

    def containers(self) -> list[Container]:
        """Return those of all services, ended ones too."""
        label = f"com.docker.compose.project={self.settings()['COMPOSE_PROJECT_NAME']}"
        return list(self.client.containers.list(all=True, filters={"label": label}))

    def volumes(self) -> list[Volume]:
        """Return those of the project."""
        label = f"com.docker.compose.project={self.settings()['COMPOSE_PROJECT_NAME']}"
        return list(self.client.volumes.list(filters={"label": label}))

    def rows(self, query: str, login: str = "evc", password: str = "EVC_METRICS_PASSWORD") -> list[list[Any]]:  # noqa: S107  the name of one
        """Return what the metrics database answers: asked from inside, as it is not published."""
        url = f"postgresql://{login}:{self.settings()[password]}@metrics-db/evc"
        inside = self.container("scheduler")
        status, said = inside.exec_run(["python", "-c", _ASK], environment={"URL": url, "SQL": query})
        assert status == 0, said.decode()
        return list(json.loads(said))


def until(condition: Callable[[], object], timeout_s: float, what: str) -> None:
    """Wait for ``condition``; fails the test where it does not come."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s for {what}"
        time.sleep(0.5)


@contextmanager
def stack_folder(folder: Path, socket: Path, settings: Mapping[str, str]) -> Iterator[Stack]:
    """Yield a stack that is not started yet; all that came of it is removed at the end.

    :param folder: a copy of this checkout comes here, without what git does not know
    :param settings: what ``.env`` says before the first start, beside a project of its own and images that are there
    """
    _copy_checkout(folder)
    name = f"evc{secrets.token_hex(4)}"
    given = {
        "COMPOSE_PROJECT_NAME": name,
        "COMPOSE_PROFILES": "",  # no Grafana: its image is only in a public registry
        "EVC_PYTHON_IMAGE": PYTHON_IMAGE,
        "EVC_POSTGRES_IMAGE": POSTGRES_IMAGE,
        "EVC_REGISTRY_IMAGE": REGISTRY_IMAGE,
        "EVC_BUILD_NETWORK": "host",
        "EVC_IMAGE": f"evc.test/{name}:1",
        **settings,
    }
    (folder / ".env").write_text("".join(f"{key}={value}\n" for key, value in given.items()))
    client = docker.DockerClient(base_url=f"unix://{socket}", timeout=120)
    try:
        yield Stack(folder, socket, client)
    finally:
        _remove(client, name)
        client.close()


def _copy_checkout(folder: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name)


def _remove(client: docker.DockerClient, name: str) -> None:
    mine = {"label": f"com.docker.compose.project={name}"}
    for container in client.containers.list(all=True, filters=mine, ignore_removed=True):
        container.remove(force=True, v=True)
    for network in client.networks.list(filters=mine):
        for container in client.api.inspect_network(network.id)["Containers"] or {}:
            network.disconnect(container, force=True)
        network.remove()
    for volume in client.volumes.list(filters=mine):
        volume.remove(force=True)
