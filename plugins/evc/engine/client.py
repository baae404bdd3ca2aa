"""Docker Engine API over a node's SSH session.

Source: Docker Engine API 1.41 and later, https://docs.docker.com/reference/api/engine/. Nothing but sshd and the engine
is needed on the node; nothing listens on this side.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import quote

import aiohttp
import asyncssh

from evc.engine.channel import ChannelConnector, EngineNotThere
from evc.errors import ConnectionCut, EngineAway, EngineError
from evc.ssh.session import Session

SOCKET = "/var/run/docker.sock"
REQUEST_TIMEOUT_S = 60.0
IDLE_TIMEOUT_S = 300.0
"""For pull and push: how long the engine may say nothing. Unpacking a large layer to an SD card takes minutes."""
API_VERSION = (1, 41)
"""What is spoken: Docker 20.10. An engine that has dropped it is asked in the oldest version that it still speaks."""
MAX_MESSAGE = 400
_EVENTS = ("start", "die", "oom", "destroy", "health_status")  # not those of each health check's process
_AS_ASKED = 304  # it has the state that was asked for
# engines compress nothing, and a node that does could fill our memory with a few bytes
_HEADERS = {"User-Agent": "evc", "Accept-Encoding": "identity"}
_MAX_GRACE_S = 600.0  # as model.yaml allows
_MAX_ANSWER_BYTES = 32 * 1024 * 1024
_MAX_LINE_BYTES = 1024 * 1024

Auth = Mapping[str, str]
"""``username`` and ``password`` of a registry account; never logged."""

Frame = tuple[bool, bytes]
"""Of a container's log: whether it is stderr, and what was written, mostly one line with its end."""


class Engine:
    """A node's Docker Engine. Made by :func:`connect`.

    Errors: ``EngineAway`` where no engine answers, ``EngineError`` with the engine's own words where it refuses
    (``status`` is its HTTP status), ``ConnectionCut`` where the way to the node ended.
    """

    def __init__(self, session: Session, http: aiohttp.ClientSession, socket: str) -> None:
        self.session = session
        self.name = session.node.name
        self._http = http
        self._socket = socket
        self._version: dict[str, Any] | None = None

    # -- the engine ------------------------------------------------------------------------------------------------

    async def version(self) -> dict[str, Any]:
        """Return ``GET /version``: ``Version``, ``ApiVersion``, ``MinAPIVersion``, ``Os``, ``Arch``; asked once."""
        if self._version is None:
            self._version = self._object("version", await self._json("version", "GET", "/version"))
        return self._version

    async def info(self) -> dict[str, Any]:
        """Return ``GET /info``: ``Architecture``, ``DockerRootDir``, ``Runtimes``, ``SystemTime``, ..."""
        return await self._ask("info", "GET", "/info")

    async def distribution(self, reference: str, auth: Auth | None = None) -> dict[str, Any]:
        """Return what the engine itself learns of an image from its registry, nothing pulled.

        :raises EngineError: as the registry answered the engine: not reachable, certificate, account, no such image
        """
        path = f"/distribution/{_quote(reference)}/json"
        return await self._ask(f"look-up of {reference}", "GET", path, auth=_auth_header(reference, auth))

    async def log_in(self, address: str, auth: Auth) -> None:
        """Let the engine itself try an account at a registry; nothing is kept there.

        :param address: ``host:port``
        :raises EngineError: as the registry answered the engine: not reachable, certificate, account
        """
        await self._tell(f"login at {address}", "POST", "/auth", body={**auth, "serveraddress": address})

    async def events(self, container: str) -> AsyncGenerator[dict[str, Any], None]:
        """Yield what happens to a container from now on; ``Action``: ``start``, ``die``, ``health_status: ...``.

        The first item is empty: from then on nothing is missed.
        """
        what = f"events of container {container}"
        filters = {"type": ["container"], "container": [container], "event": list(_EVENTS)}
        params = {"filters": json.dumps(filters)}
        async with self._answer(what, "GET", await self._path("/events"), params=params, idle_s=None) as answer:
            yield {}
            async for message in self._messages(what, answer):
                yield message

    # -- images ----------------------------------------------------------------------------------------------------

    async def image(self, reference: str) -> dict[str, Any] | None:
        """Return ``GET /images/{reference}/json``; None where the node does not have it."""
        with _absent():
            return await self._ask(f"image {reference}", "GET", f"/images/{_quote(reference)}/json")
        return None

    async def images(
        self, *, reference: str | None = None, labels: Mapping[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """Return the node's images (``Id``, ``RepoDigests``, ``RepoTags``, ``Labels``, ``Created``, ``Size``).

        :param reference: only those of this name, e.g. ``registry:5000/reid``
        """
        filters = _filters(labels) | ({"reference": [reference]} if reference else {})
        params = {"filters": json.dumps(filters)} if filters else {}
        return await self._ask_list("images", "/images/json", params)

    async def pull(
        self, reference: str, auth: Auth | None = None, *, idle_s: float = IDLE_TIMEOUT_S
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Pull and yield the engine's progress messages (``status``, ``id``, ``progressDetail``).

        Images that are being pulled already are waited for, not pulled twice. Who stops iterating stops the pull,
        unless someone else pulls the same; what arrived in whole layers stays.

        :param idle_s: how long the engine may say nothing
        :raises EngineError: the pull failed, with the engine's words
        """
        repository, at, digest = reference.partition("@")
        params = {"fromImage": repository, **({"tag": digest} if at else {})}
        headers = _auth_header(reference, auth)
        async for message in self._stream(
            f"pull of {reference}", "/images/create", params=params, auth=headers, idle_s=idle_s
        ):
            yield message

    async def push(
        self, repository: str, tag: str, auth: Auth | None = None, *, idle_s: float = IDLE_TIMEOUT_S
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Push and yield progress messages; the last ``aux`` holds ``Digest`` and ``Size``.

        :param repository: with the registry's address
        """
        # the engine refuses to push without any account, be it an empty one
        headers = _auth_header(repository, auth or {})
        async for message in self._stream(
            f"push of {repository}:{tag}",
            f"/images/{_quote(repository)}/push",
            params={"tag": tag},
            auth=headers,
            idle_s=idle_s,
        ):
            yield message

    async def tag(self, reference: str, repository: str, tag: str) -> None:
        """Give an image of the node another name."""
        params = {"repo": repository, "tag": tag}
        await self._tell(f"tag of {reference}", "POST", f"/images/{_quote(reference)}/tag", params=params)

    async def remove_image(self, reference: str) -> bool:
        """Remove an image or one of its names; False where it is not there.

        :raises EngineError: a container uses it (``status`` 409)
        """
        with _absent():
            await self._tell(f"removal of image {reference}", "DELETE", f"/images/{_quote(reference)}")
            return True
        return False

    # -- containers ------------------------------------------------------------------------------------------------

    async def containers(self, labels: Mapping[str, str], *, stopped: bool = True) -> list[dict[str, Any]]:
        """Return the containers that bear all of ``labels``, as ``GET /containers/json`` lists them.

        :param labels: an empty value asks for the label alone
        """
        params = {"all": "true" if stopped else "false", "filters": json.dumps(_filters(labels))}
        return await self._ask_list("containers", "/containers/json", params)

    async def inspect(self, container: str) -> dict[str, Any] | None:
        """Return ``GET /containers/{id}/json``; None where there is none."""
        with _absent():
            return await self._ask(f"container {container}", "GET", f"/containers/{_quote(container)}/json")
        return None

    async def create(self, name: str, config: Mapping[str, Any]) -> str:
        """Create a container, body as of ``POST /containers/create``; returns its id.

        :raises EngineError: the name is taken (``status`` 409), or the engine refuses
        """
        what = f"creation of container {name}"
        made = await self._ask(what, "POST", "/containers/create", params={"name": name}, body=config)
        return str(made.get("Id"))

    async def start(self, container: str) -> None:
        """Start it; nothing happens where it runs."""
        await self._do(f"start of container {container}", container, "start")

    async def stop(self, container: str, grace_s: int | None = None) -> None:
        """Stop it: SIGTERM, and SIGKILL after ``grace_s``. Nothing happens where it is stopped or gone.

        :param grace_s: None: as long as it was made with
        """
        params = {} if grace_s is None else {"t": str(grace_s)}
        with _absent():
            await self._do(f"stop of container {container}", container, "stop", params, more_s=_MAX_GRACE_S)

    async def unpause(self, container: str) -> None:
        """Let its frozen processes go on."""
        await self._do(f"unpausing of container {container}", container, "unpause")

    async def remove(self, container: str) -> None:
        """Remove it, running or not, with its anonymous volumes. Nothing happens where it is gone."""
        with _absent():
            what = f"removal of container {container}"
            params = {"force": "true", "v": "true"}
            await self._tell(what, "DELETE", f"/containers/{_quote(container)}", params=params)

    async def rename(self, container: str, name: str) -> None:
        """Give it another name."""
        await self._do(f"renaming of container {container}", container, "rename", {"name": name})

    async def wait(self, container: str) -> int:
        """Wait until it has ended; returns its exit code."""
        what = f"wait for container {container}"
        path = await self._path(f"/containers/{_quote(container)}/wait")
        async with self._answer(what, "POST", path, idle_s=None) as answer:
            return int(self._object(what, await self._read_json(answer)).get("StatusCode", -1))

    async def logs(
        self,
        container: str,
        *,
        follow: bool = False,
        since: float | str | None = None,
        until: float | str | None = None,
        tail: int | None = None,
        timestamps: bool = False,
        stderr: bool = True,
    ) -> AsyncGenerator[list[Frame], None]:
        """Yield what it wrote, many frames at a time as they come.

        :param follow: go on until it ends
        :param since: unix seconds, a text such as ``"1700000000.123456789"`` where a float is too coarse
        :param tail: only the last so many lines
        :param timestamps: each frame begins with an RFC 3339 time and a space
        :param stderr: false: of stdout alone; the rest does not travel
        """
        what = f"log of container {container}"
        given = {"since": since, "until": until, "tail": tail}
        params = {name: str(value) for name, value in given.items() if value is not None}
        params |= {"stdout": "true", "stderr": str(stderr).lower(), "follow": str(follow).lower()}
        params |= {"timestamps": str(timestamps).lower()}
        path = await self._path(f"/containers/{_quote(container)}/logs")
        async with self._answer(
            what, "GET", path, params=params, idle_s=None if follow else REQUEST_TIMEOUT_S
        ) as answer:
            rest = b""
            async for chunk in answer.content.iter_any():
                frames, rest = _frames(rest + chunk)
                if len(rest) > _MAX_LINE_BYTES:
                    raise self._refused(what, "its log is not in frames: was it made with a terminal?", None)
                if frames:
                    yield frames

    async def _do(
        self, what: str, container: str, verb: str, params: Mapping[str, str] | None = None, more_s: float = 0
    ) -> None:
        path = f"/containers/{_quote(container)}/{verb}"
        await self._tell(what, "POST", path, params=params, timeout_s=REQUEST_TIMEOUT_S + more_s)

    # -- requests --------------------------------------------------------------------------------------------------

    async def _path(self, path: str) -> str:
        """Return ``path`` under the version of the API that both sides speak."""
        version = await self.version()
        newest, oldest = api_version(version.get("ApiVersion")), api_version(version.get("MinAPIVersion"))
        if newest < API_VERSION:
            raise EngineError(
                f"{self.name}: its Docker Engine {_one_line(str(version.get('Version')))} speaks API "
                f"{newest[0]}.{newest[1]}; needed is {API_VERSION[0]}.{API_VERSION[1]} or later, Docker 20.10"
            )
        spoken = max(API_VERSION, oldest)
        return f"/v{spoken[0]}.{spoken[1]}{path}"

    async def _ask(self, what: str, method: str, path: str, **more: Any) -> dict[str, Any]:
        return self._object(what, await self._json(what, method, await self._path(path), **more))

    async def _tell(self, what: str, method: str, path: str, **more: Any) -> None:
        """Ask for something to be done, whatever is said of it."""
        await self._json(what, method, await self._path(path), **more)

    async def _ask_list(self, what: str, path: str, params: Mapping[str, str]) -> list[dict[str, Any]]:
        found = await self._json(what, "GET", await self._path(path), params=params)
        if not isinstance(found, list):
            raise self._refused(what, "not as its API promises: no list", None)
        return [self._object(what, item) for item in found]

    async def _json(
        self, what: str, method: str, path: str, *, timeout_s: float = REQUEST_TIMEOUT_S, **more: Any
    ) -> Any:
        async with self._answer(what, method, path, total_s=timeout_s, **more) as answer:
            return await self._read_json(answer)

    async def _read_json(self, answer: aiohttp.ClientResponse) -> Any:
        said = bytearray()
        async for chunk in answer.content.iter_any():
            said += chunk
            if len(said) > _MAX_ANSWER_BYTES:
                raise ValueError(f"an answer of more than {_MAX_ANSWER_BYTES} bytes")
        return json.loads(said) if said else None

    async def _stream(self, what: str, path: str, **more: Any) -> AsyncGenerator[dict[str, Any], None]:
        async with self._answer(what, "POST", await self._path(path), **more) as answer:
            async for message in self._messages(what, answer):
                detail = message.get("errorDetail")
                words = (detail.get("message") if isinstance(detail, dict) else None) or message.get("error")
                if words:
                    raise self._refused(what, str(words), None)
                yield message

    async def _messages(self, what: str, answer: aiohttp.ClientResponse) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the JSON objects of a stream, one a line."""
        rest = b""
        async for chunk in answer.content.iter_any():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.strip():
                    message = json.loads(line)
                    if isinstance(message, dict):
                        yield message
            if len(rest) > _MAX_LINE_BYTES:
                raise self._refused(what, "a message without end", None)

    @asynccontextmanager
    async def _answer(
        self,
        what: str,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        auth: Mapping[str, str] | None = None,
        total_s: float | None = None,
        idle_s: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            async with self._http.request(
                method,
                f"http://engine{path}",
                params=params,
                json=body,
                headers=auth,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=total_s, sock_read=idle_s),
            ) as answer:
                if answer.status >= 300 and answer.status != _AS_ASKED:
                    raise self._refused(what, _words(await answer.content.read(MAX_MESSAGE * 20)), answer.status)
                yield answer
        except TimeoutError:
            waited = f"nothing came for {idle_s:g} s" if idle_s else f"no answer within {total_s or 0:g} s"
            raise EngineAway(f"{self.name}: {what}: {waited}") from None
        except (aiohttp.ClientError, asyncssh.Error, OSError) as error:
            raise await self._why(what, error) from None
        except (ValueError, RecursionError) as error:  # no JSON, or nested without end
            raise self._refused(what, f"not as its API promises: {error}", None) from None

    def _object(self, what: str, answer: Any) -> dict[str, Any]:
        if not isinstance(answer, dict):
            raise self._refused(what, "not as its API promises: no object", None)
        return answer

    def _refused(self, what: str, words: str, status: int | None) -> EngineError:
        error = EngineError(f"{self.name}: {what}: {_one_line(words)}")
        error.status = status
        return error

    async def _why(self, what: str, error: Exception) -> Exception:
        """Say where the way to the engine ended."""
        await asyncio.sleep(0)  # channels are told of the end of their connection first
        if not self.session.is_open:
            return ConnectionCut(f"{self.name}: {what}: the connection to the node was cut")
        if isinstance(error, EngineNotThere):
            return EngineAway(
                f"{self.name}: no Docker Engine answers at {self._socket}: is it installed and running, is the "
                f"login in group docker, and does sshd allow forwarding (AllowStreamLocalForwarding)?"
            )
        return EngineAway(f"{self.name}: {what}: the engine ended the connection ({_one_line(str(error))})")


@asynccontextmanager
async def connect(session: Session, socket: str = SOCKET) -> AsyncIterator[Engine]:
    """Yield the engine of the node that ``session`` leads to. Nothing is sent yet.

    :param socket: path of its socket on the node
    """
    connector = ChannelConnector(lambda: session.connection, socket)
    async with aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), headers=_HEADERS, auto_decompress=False
    ) as http:
        yield Engine(session, http, socket)


def api_version(text: object) -> tuple[int, int]:
    """Read a version of the API such as ``1.41``; (0, 0) where it is none."""
    major, dot, minor = str(text).partition(".")
    is_version = dot and major.isdecimal() and minor.isdecimal() and len(major) + len(minor) < 9
    return (int(major), int(minor)) if is_version else (0, 0)


@contextmanager
def _absent() -> Any:
    """What is not there is no error."""
    try:
        yield
    except EngineError as error:
        if error.status != 404:
            raise


def _frames(data: bytes) -> tuple[list[Frame], bytes]:
    """Cut a log into frames (8 bytes: stream, 0, 0, 0, length; then the text) and the rest that is still to come."""
    frames: list[Frame] = []
    begin, size = 0, len(data)
    while begin + 8 <= size:
        end = begin + 8 + int.from_bytes(data[begin + 4 : begin + 8], "big")
        if end > size:
            break
        frames.append((data[begin] == 2, data[begin + 8 : end]))
        begin = end
    return frames, data[begin:]


def _filters(labels: Mapping[str, str] | None) -> dict[str, list[str]]:
    named = [f"{name}={value}" if value else name for name, value in (labels or {}).items()]
    return {"label": named} if named else {}


def _quote(reference: str) -> str:
    return quote(reference, safe="/:@")


def _auth_header(reference: str, auth: Auth | None) -> dict[str, str]:
    if auth is None:
        return {}
    account = json.dumps({**auth, "serveraddress": reference.partition("/")[0]})
    return {"X-Registry-Auth": base64.urlsafe_b64encode(account.encode()).decode()}


def _words(said: bytes) -> str:
    """Return the engine's own words of an answer that is an error."""
    try:
        return str(json.loads(said)["message"])
    except (ValueError, KeyError, TypeError):
        return said.decode("utf-8", "replace") or "no reason given"


def _one_line(words: str) -> str:
    text = " ".join("".join(c if c.isprintable() else " " for c in words).split())
    return text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]}..."
