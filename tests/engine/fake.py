"""An engine that behaves badly: HTTP on a Unix socket, reached through a real sshd."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from evc.engine.client import Engine, connect
from evc.ssh.credentials import load_credentials
from evc.ssh.session import Session, open_session
from tests.servers.sshd import SshServer

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]
VERSION = {"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12", "Os": "linux", "Arch": "amd64"}


class FakeEngine:
    """Answers requests as told.

    :ivar answers: by "METHOD /path" without the version; anything else is 404
    :ivar requests: request lines and headers that came
    """

    def __init__(self, version: Mapping[str, Any]) -> None:
        self.answers: dict[str, Answer] = {"GET /version": said(version)}
        self.requests: list[tuple[str, dict[str, str]]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            while line := (await reader.readline()).decode().strip():
                headers = {}
                while header := (await reader.readline()).decode().strip():
                    name, _, value = header.partition(": ")
                    headers[name.lower()] = value
                await reader.readexactly(int(headers.get("content-length", 0)))
                self.requests.append((line, headers))
                method, target, _ = line.split()
                path = target.partition("?")[0]
                if path.startswith("/v1."):
                    path = "/" + path.split("/", 2)[2]
                answer = self.answers.get(f"{method} {path}", said({"message": "page not found"}, "404 Not Found"))
                await answer(writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def said(body: object, status: str = "200 OK") -> Answer:
    """Return an answer of JSON, or of bytes as they are."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def answer(writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)

    return answer


def streamed(*chunks: bytes, then: Callable[[asyncio.StreamWriter], Awaitable[None]] | None = None) -> Answer:
    """Return an answer that comes in chunks, and ends unless ``then`` does something else."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for chunk in chunks:
            writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            await writer.drain()
        if then:
            await then(writer)
        else:
            writer.write(b"0\r\n\r\n")

    return answer


@asynccontextmanager
async def engine_of(
    sshd: SshServer, folder: Path, version: Mapping[str, Any] = VERSION
) -> AsyncIterator[tuple[Engine, FakeEngine, Session]]:
    """Yield a client, the engine it leads to, and the session between."""
    fake = FakeEngine(version)
    path = folder / "engine.sock"
    server = await asyncio.start_unix_server(fake.serve, path)
    credentials = load_credentials("evc_nodes", login=sshd.user, key_file=str(sshd.key_file))
    session = await open_session(sshd.node(), credentials, timeout_s=20, exchanges=asyncio.Semaphore(4))
    try:
        async with connect(session, str(path)) as engine:
            yield engine, fake, session
    finally:
        await session.close()
        server.close()
