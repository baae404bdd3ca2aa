"""HTTP over an SSH channel: the way to the socket of a node's Docker Engine, without a socket on this side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import aiohttp
import asyncssh
from aiohttp.client_proto import ResponseHandler

# what the engine may send before it is read. sshd waits beyond that, and the engine then leaves out progress messages
_WINDOW_BYTES = 256 * 1024


class EngineNotThere(aiohttp.ClientConnectionError):
    """The node's sshd could not connect to the engine's socket, or does not allow it."""


class _Session(asyncssh.SSHUNIXSession[bytes]):
    """Hands an SSH channel to aiohttp as its transport, and what comes through it to aiohttp's protocol."""

    def __init__(self, protocol: ResponseHandler) -> None:
        self.protocol = protocol

    def connection_made(self, chan: Any) -> None:
        self.protocol.connection_made(chan)

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        self.protocol.data_received(data)

    def eof_received(self) -> bool:
        self.protocol.eof_received()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self.protocol.pause_writing()

    def resume_writing(self) -> None:
        self.protocol.resume_writing()


class ChannelConnector(aiohttp.BaseConnector):
    """Connections of aiohttp that are channels of an SSH connection.

    :param connection: returns the SSH connection
    :param socket: path of the engine's socket on the node
    """

    allowed_protocol_schema_set = frozenset({"http"})

    def __init__(self, connection: Callable[[], asyncssh.SSHClientConnection], socket: str) -> None:
        super().__init__(keepalive_timeout=60, limit=0)
        self._connection = connection
        self._socket = socket

    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> ResponseHandler:  # noqa: ASYNC109
        session = _Session(ResponseHandler(loop=self._loop))
        try:
            await self._connection().create_unix_connection(lambda: session, self._socket, window=_WINDOW_BYTES)
        except asyncssh.ChannelOpenError as error:
            raise EngineNotThere(error.reason) from None
        except asyncssh.Error as error:
            raise aiohttp.ClientConnectionError(error.reason) from None
        return session.protocol
