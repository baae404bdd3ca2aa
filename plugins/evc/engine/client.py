"""Docker Engine API over a node's SSH session.

Source: Docker Engine API 1.41, https://docs.docker.com/reference/api/engine/. aiodocker speaks it; here it gets its way
to the node, errors that an operator understands, and time limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiodocker
import aiohttp
import asyncssh
from aiodocker.containers import DockerContainer

from evc.errors import ConnectionCut, EngineAway, EngineError
from evc.ssh.session import Session

SOCKET = "/var/run/docker.sock"
REQUEST_TIMEOUT_S = 60.0
MAX_MESSAGE = 400

Auth = Mapping[str, str]
"""``username`` and ``password`` of a registry account; never logged."""


class Engine:
    """A node's Docker Engine. Made by :func:`connect`.

    Errors: ``EngineAway`` where no engine answers, ``EngineError`` with the engine's own words where it refuses
    (``status`` is its HTTP status), ``ConnectionCut`` where the way to the node ended.
    """

    def __init__(self, session: Session, docker: aiodocker.Docker, socket: str) -> None:
        self.session = session
        self.name = session.node.name
        self._docker = docker
        self._socket = socket

    # -- the engine ------------------------------------------------------------------------------------------------

    async def info(self) -> dict[str, Any]:
        """Return ``GET /info``: ``Architecture``, ``ServerVersion``, ``DockerRootDir``, ``Runtimes``, ..."""
        async with self._errors("info"):
            return dict(await self._docker.system.info())

    async def distribution(self, reference: str, auth: Auth | None = None) -> dict[str, Any]:
        """Return what the engine itself learns of an image from its registry, nothing pulled.

        :raises EngineError: as the registry answered the engine: not reachable, certificate, account, no such image
        """
        async with self._errors(f"look-up of {reference}"):
            headers = {"X-Registry-Auth": _auth_header(reference, auth)} if auth else {}
            path = f"distribution/{quote(reference, safe='/:@')}/json"
            return dict(await self._docker._query_json(path, "GET", headers=headers))

    # -- images ----------------------------------------------------------------------------------------------------

    async def image(self, reference: str) -> dict[str, Any] | None:
        """Return ``GET /images/{reference}/json``; None where the node does not have it."""
        with _absent():
            async with self._errors(f"image {reference}"):
                return dict(await self._docker.images.inspect(reference))
        return None

    async def images(self, *, labels: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """Return the node's images (``Id``, ``RepoDigests``, ``RepoTags``, ``Labels``, ``Created``, ``Size``)."""
        async with self._errors("images"):
            found = await self._docker.images.list(**({"filters": _filters(labels)} if labels else {}))
            return [dict(image) for image in found]

    async def pull(self, reference: str, auth: Auth | None = None) -> AsyncIterator[dict[str, Any]]:
        """Pull and yield the engine's progress messages (``status``, ``id``, ``progressDetail``).

        :raises EngineError: the pull failed, with the engine's words
        """
        async with self._errors(f"pull of {reference}"):
            repository, at, digest = reference.partition("@")
            tag = digest if at else None
            stream = self._docker.images.pull(
                repository, tag=tag, auth=_auth(reference, auth), stream=True, timeout=None
            )
            async for message in stream:
                self._raise_of(f"pull of {reference}", message)
                yield message

    async def push(self, repository: str, tag: str, auth: Auth | None = None) -> AsyncIterator[dict[str, Any]]:
        """Push and yield progress messages; the last ``aux`` holds ``Digest`` and ``Size``.

        :param repository: with the registry's address
        """
        async with self._errors(f"push of {repository}:{tag}"):
            stream = self._docker.images.push(
                repository, tag=tag, auth=_auth(repository, auth), stream=True, timeout=None
            )
            async for message in stream:
                self._raise_of(f"push of {repository}:{tag}", message)
                yield message

    async def tag(self, reference: str, repository: str, tag: str) -> None:
        """Give an image of the node another name."""
        async with self._errors(f"tag of {reference}"):
            await self._docker.images.tag(reference, repository, tag=tag)

    async def remove_image(self, reference: str) -> bool:
        """Remove an image or one of its names; False where it is not there.

        :raises EngineError: a container uses it
        """
        with _absent():
            async with self._errors(f"removal of image {reference}"):
                await self._docker.images.delete(reference)
                return True
        return False

    # -- containers ------------------------------------------------------------------------------------------------

    async def containers(self, labels: Mapping[str, str], *, stopped: bool = True) -> list[dict[str, Any]]:
        """Return the containers that bear all of ``labels``, as ``GET /containers/json`` lists them.

        :param labels: an empty value asks for the label alone
        """
        async with self._errors("containers"):
            found = await self._docker.containers.list(all=stopped, filters=_filters(labels))
            return [dict(container._container) for container in found]

    async def inspect(self, container: str) -> dict[str, Any] | None:
        """Return ``GET /containers/{id}/json``; None where there is none."""
        with _absent():
            async with self._errors(f"container {container}"):
                return dict(await self._container(container).show())
        return None

    async def create(self, name: str, config: Mapping[str, Any]) -> str:
        """Create a container, body as of ``POST /containers/create``; returns its id.

        :raises EngineError: the name is taken (``status`` 409), or the engine refuses
        """
        async with self._errors(f"creation of container {name}"):
            return str((await self._docker.containers.create(dict(config), name=name)).id)

    async def start(self, container: str) -> None:
        """Start it; nothing happens where it runs."""
        async with self._errors(f"start of container {container}"):
            await self._container(container).start()

    async def stop(self, container: str, grace_s: int = 10) -> None:
        """Stop it: SIGTERM, and SIGKILL after ``grace_s``. Nothing happens where it is stopped or gone."""
        with _absent():
            async with self._errors(f"stop of container {container}"):
                await self._container(container).stop(t=grace_s, timeout=REQUEST_TIMEOUT_S + grace_s)

    async def remove(self, container: str) -> None:
        """Remove it, running or not, with its anonymous volumes. Nothing happens where it is gone."""
        with _absent():
            async with self._errors(f"removal of container {container}"):
                await self._container(container).delete(force=True, v=True)

    async def rename(self, container: str, name: str) -> None:
        """Give it another name."""
        async with self._errors(f"renaming of container {container}"):
            await self._container(container).rename(name)

    async def wait(self, container: str) -> int:
        """Wait until it has ended; returns its exit code."""
        async with self._errors(f"wait for container {container}"):
            return int((await self._container(container).wait(timeout=None))["StatusCode"])

    def _container(self, container: str) -> DockerContainer:
        return self._docker.containers.container(container)

    # -- errors ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _errors(self, what: str) -> AsyncIterator[None]:
        try:
            yield
        except aiodocker.DockerError as error:
            raise self._refused(what, str(error.message), error.status) from None
        except TimeoutError:
            raise EngineAway(f"{self.name}: {what}: the engine did not answer in time") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise await self._why(what, error) from None

    def _refused(self, what: str, words: str, status: int | None) -> EngineError:
        words = _one_line(words)
        error = EngineError(f"{self.name}: {what}: {words}")
        error.status = status
        return error

    def _raise_of(self, what: str, message: Mapping[str, Any]) -> None:
        words = message.get("errorDetail", {}).get("message") or message.get("error")
        if words:
            raise self._refused(what, str(words), None)

    async def _why(self, what: str, error: Exception) -> Exception:
        """Find out where the way to the engine ends: the local end of a tunnel only ever sees that it was closed."""
        if not self.session.is_open:
            return ConnectionCut(f"{self.name}: {what}: the connection to the node was cut")
        try:
            async with asyncio.timeout(10):
                _, writer = await self.session.connection.open_unix_connection(self._socket, encoding=None)
            writer.close()
        except TimeoutError:
            return ConnectionCut(f"{self.name}: {what}: the node does not answer any more")
        except (asyncssh.Error, OSError):
            if not self.session.is_open:
                return ConnectionCut(f"{self.name}: {what}: the connection to the node was cut")
            return EngineAway(
                f"{self.name}: no Docker Engine answers at {self._socket}: is it installed and running, and is the "
                f"login in group docker?"
            )
        return EngineAway(f"{self.name}: {what}: the engine ended the connection ({_one_line(str(error))})")


@asynccontextmanager
async def connect(session: Session, socket: str = SOCKET) -> AsyncIterator[Engine]:
    """Yield the engine of the node that ``session`` leads to. Nothing is sent yet.

    :param socket: path of its socket on the node
    """
    with tempfile.TemporaryDirectory(prefix="evc-engine-") as folder:  # 0700
        local = Path(folder) / "sock"
        try:
            listener = await session.connection.forward_local_path(str(local), socket)
        except (asyncssh.Error, OSError):
            raise ConnectionCut(f"{session.node.name}: the connection to the node was cut") from None
        docker = aiodocker.Docker(
            url=f"unix://{local}", timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S), api_version="v1.41"
        )
        try:
            yield Engine(session, docker, socket)
        finally:
            await docker.close()
            listener.close()
            with contextlib.suppress(TimeoutError, asyncssh.Error, OSError):
                await asyncio.wait_for(listener.wait_closed(), 5)


@contextlib.contextmanager
def _absent() -> Any:
    """What is not there is no error; neither is what has the state that was asked for (304)."""
    try:
        yield
    except EngineError as error:
        if error.status not in (304, 404):
            raise


def _filters(labels: Mapping[str, str] | None) -> str:
    return json.dumps({"label": [f"{name}={value}" if value else name for name, value in (labels or {}).items()]})


def _auth(reference: str, auth: Auth | None) -> dict[str, Any] | None:
    return {**auth, "serveraddress": reference.partition("/")[0]} if auth else None


def _auth_header(reference: str, auth: Auth) -> str:
    server = reference.partition("/")[0]
    header: str = aiodocker.utils.compose_auth_header({**auth, "serveraddress": server}, server)
    return header


def _one_line(words: str) -> str:
    text = " ".join("".join(c if c.isprintable() else " " for c in words).split())
    return text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]}..."
