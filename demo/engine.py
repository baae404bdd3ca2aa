"""The Docker Engine of this machine, where there is one, and the demo's private registry in it."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.models.containers import Container

from demo.progress import say, wait_until
from demo.server import ADDRESS, ENGINE_SOCKET, NODE_PATH
from demo.state import DemoError, State
from evc.registry.folder import Face, RegistryFolder, Wanted

REGISTRY_IMAGE = "registry:2.8.3"
PORTS = range(5000, 5100)
LABEL = "evc.demo"
SERVES = "evc.demo.serves"
_START_TIMEOUT_S = 30.0
_ANSWER_TIMEOUT_S = 30
# pulls and pushes of a first time may keep an engine busy
_TIMEOUT_S = 300


class NoEngine(DemoError):
    """Why no model can be built and run here. The demo goes on without."""


@dataclass(frozen=True, slots=True)
class LocalEngine:
    """The engine that ``DOCKER_HOST`` names, else that of the machine. :param socket: where it listens"""

    socket: str
    client: docker.DockerClient


def find_engine() -> LocalEngine:
    """Return the engine of this machine. :raises NoEngine: there is none that the demo can use"""
    host = os.environ.get("DOCKER_HOST") or f"unix://{ENGINE_SOCKET}"
    scheme, separator, path = host.partition("://")
    if scheme != "unix" or not path.startswith("/"):
        leads = f"leads to {scheme}://..." if separator and scheme != "unix" else "names no absolute path"
        raise NoEngine(f"DOCKER_HOST {leads}; the demo's nodes need an engine of this machine, unix:///...")
    if shutil.which("docker", path=NODE_PATH) is None:
        raise NoEngine("there is no docker command, with which models are built")
    _knock(path)
    client, info = _ask(path)
    if any("rootless" in option for option in info.get("SecurityOptions") or ()):
        raise NoEngine(f"the engine at {path} is rootless: its loopback, where the demo's registry is, is another")
    return LocalEngine(path, client)


def _ask(path: str) -> tuple[docker.DockerClient, dict[str, Any]]:
    """Return a client of an engine, and what that says of itself."""
    try:
        # one that hangs must not keep the demo for as long as a pull may
        client = docker.DockerClient(base_url=f"unix://{path}", version="auto", timeout=_ANSWER_TIMEOUT_S)
        info = client.info()
    except (DockerException, requests.RequestException) as error:
        raise NoEngine(f"what answers at {path} is no Docker Engine that works: {_said(error)}") from None
    client.api.timeout = _TIMEOUT_S
    return client, info


def _knock(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as knock:
        knock.settimeout(5)
        try:
            knock.connect(path)
        except OSError as error:
            who = pwd.getpwuid(os.getuid()).pw_name
            hint = f"; is {who} in group docker?" if isinstance(error, PermissionError) else ""
            raise NoEngine(f"no Docker Engine answers at {path}: {error.strerror or error}{hint}") from None


# -- the registry ------------------------------------------------------------------------------------------------------


def registry_folder(state: State) -> RegistryFolder:
    """Return what ``evc registry init`` makes, in the demo's folder."""
    return RegistryFolder(state.folder / "registry")


def prepare_registry(state: State, engine: LocalEngine | None) -> bool:
    """Make the registry's folder, with ports that are free; returns whether Airflow needs its connection anew.

    A registry of the user's own that lies there is left as it is.
    """
    folder = registry_folder(state)
    if _is_the_users(folder):
        return False
    kept = [face.port() for face in _faces(folder)]
    if not all(_keeps_its_port(state, engine, face) for face in _faces(folder)):
        free = iter(port for port in PORTS if _is_free(port))
        kept = [next(free, None), next(free, None)]
        if None in kept:
            raise DemoError(f"no two free ports for a registry from {PORTS[0]} to {PORTS[-1]} on {ADDRESS}")
    before = folder.connection()
    folder.init(Wanted(names=[ADDRESS], port=kept[0], pull_port=kept[1]))
    for face in _faces(folder):
        _listen_on_loopback_only(face)
    return before != folder.connection()


def _is_the_users(folder: RegistryFolder) -> bool:
    server = folder.authority.server()
    return server is not None and server.names != (ADDRESS,)


def _faces(folder: RegistryFolder) -> tuple[Face, Face]:
    return folder.read_write, folder.pull_only


def _keeps_its_port(state: State, engine: LocalEngine | None, face: Face) -> bool:
    port = face.port()
    return port is not None and (_is_free(port) or bool(engine and _container(state, engine, face)))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return False
        return True


def _listen_on_loopback_only(face: Face) -> None:
    text = face.config_file.read_text()
    mine = text.replace(f'addr: ":{face.port()}"', f'addr: "{ADDRESS}:{face.port()}"')
    if mine != text:
        face.config_file.write_text(mine)


def start_registry(state: State, engine: LocalEngine) -> None:
    """Start both faces unless they run.

    :raises NoEngine: the image can't be had, or there is a registry of the user's own, whose nodes are elsewhere
    """
    folder, image = registry_folder(state), os.environ.get("EVC_REGISTRY_IMAGE") or REGISTRY_IMAGE
    if _is_the_users(folder):
        raise NoEngine(f"the demo's own registry gives way to yours in {folder.path}")
    have_image(engine, image, "EVC_REGISTRY_IMAGE")
    state.note_containers(engine.socket)
    for face in _faces(folder):
        if not _container(state, engine, face):
            _start_face(state, engine, face, image)
    for face in _faces(folder):
        wait_until(_listening(state, engine, face), _START_TIMEOUT_S, f"the registry's {face.name} face")
    say("registry: " + ", ".join(f"{face.name} at {ADDRESS}:{face.port()}" for face in _faces(folder)))


def have_image(engine: LocalEngine, image: str, variable: str) -> None:
    """Pull an image that the engine does not have.

    :param variable: of the environment, which names another
    :raises NoEngine: that is not possible
    """
    try:
        try:
            engine.client.images.get(image)
        except ImageNotFound:
            say(f"pulling {image}")
            engine.client.images.pull(image)
    except (DockerException, requests.RequestException) as error:
        raise NoEngine(f"image {image} can't be pulled ({_said(error)}); {variable} names another") from None


def _said(error: Exception) -> str:
    """Return an engine's own words in one line."""
    said = error.explanation if isinstance(error, APIError) else str(error)
    return " ".join(str(said or error).split())[:200]


def _start_face(state: State, engine: LocalEngine, face: Face, image: str) -> None:
    name = _name(state, face)
    with suppress(NotFound):
        engine.client.containers.get(name).remove(force=True)
    try:
        engine.client.containers.run(
            image,
            ["serve", face.config_file.name],
            name=name,
            labels={LABEL: str(state.folder), SERVES: _serves(face)},
            user=f"{os.getuid()}:{os.getgid()}",
            volumes={str(face.folder): {"bind": "/srv/registry", "mode": "rw"}},
            working_dir="/srv/registry",
            # it listens on this machine's loopback, and there alone
            network_mode="host",
            detach=True,
        )
    except (DockerException, requests.RequestException) as error:
        raise DemoError(f"the registry's {face.name} face can't be started: {_said(error)}") from None


def _name(state: State, face: Face) -> str:
    mine = hashlib.sha256(str(state.folder).encode()).hexdigest()[:8]
    return f"evc-demo-{mine}-{face.name}"


def _serves(face: Face) -> str:
    """Return what tells the face as it is now from what it was: port, secret and certificate are read at its start."""
    files = (face.config_file, face.folder / "server.crt")
    return hashlib.sha256(b"".join(file.read_bytes() for file in files if file.exists())).hexdigest()


def _container(state: State, engine: LocalEngine, face: Face) -> Container | None:
    """Return the container of a face where it runs, with the port and in the folder that the face has now."""
    try:
        found = engine.client.containers.get(_name(state, face))
    except NotFound:
        return None
    return found if found.status == "running" and found.labels.get(SERVES) == _serves(face) else None


def _listening(state: State, engine: LocalEngine, face: Face) -> Callable[[], bool | None]:
    def listening() -> bool | None:
        if not _container(state, engine, face):
            log = engine.client.containers.get(_name(state, face)).logs(tail=3).decode(errors="replace").strip()
            raise DemoError(f"the registry's {face.name} face ended at its start: {log}")
        return None if _is_free(face.port() or 0) else True

    return listening


def stop_registry(state: State) -> int:
    """Remove the containers that the demo started; return how many. Images and what the registry holds stay.

    :raises DemoError: an engine does not do it; the others have
    """
    count, errors = 0, []
    for path in state.engines_with_containers():
        try:
            count += _remove_containers(state, path)
        except (DockerException, requests.RequestException) as error:
            errors.append(f"the engine at {path} does not remove the demo's registry: {_said(error)}")
    if errors:
        raise DemoError("; ".join(errors))
    return count


def _remove_containers(state: State, path: str) -> int:
    try:
        _knock(path)
    except NoEngine:
        return 0  # what the engine ran has ended with it
    client = docker.DockerClient(base_url=f"unix://{path}", version="auto", timeout=_TIMEOUT_S)
    mine = client.containers.list(all=True, filters={"label": f"{LABEL}={state.folder}"}, ignore_removed=True)
    for container in mine:
        container.remove(force=True)
    return len(mine)
