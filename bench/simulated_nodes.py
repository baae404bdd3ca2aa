"""A light SSH server that answers as nodes would, on all of 127.0.0.0/8: a child of the bench.

It replays what this machine itself answers to the very command that it is asked: the command runs once and its output
serves all nodes; every few seconds it runs again, so that counters and clocks move as on a living node.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from dataclasses import dataclass

import asyncssh

from bench.child import read_order, reply

CAPTURE_AGE_S = 5.0
BACKLOG = 1000


@dataclass(slots=True)
class _Capture:
    stdout: bytes
    status: int
    taken_s: float


class _Captures:
    """What this machine answers, by command."""

    def __init__(self) -> None:
        self._known: dict[str, _Capture] = {}
        self._renewals: dict[str, asyncio.Task[_Capture]] = {}

    async def of(self, command: str) -> _Capture:
        """Return the latest; only who asks first has to wait."""
        known = self._known.get(command)
        now = asyncio.get_running_loop().time()
        if command not in self._renewals and (known is None or now - known.taken_s > CAPTURE_AGE_S):
            self._renewals[command] = asyncio.ensure_future(self._renew(command))
        return known or await self._renewals[command]

    async def _renew(self, command: str) -> _Capture:
        self._known[command] = await _run(command)
        del self._renewals[command]
        return self._known[command]


async def _run(command: str) -> _Capture:
    child = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    stdout, _ = await child.communicate()
    return _Capture(stdout, child.returncode or 0, asyncio.get_running_loop().time())


class _Session(asyncssh.SSHServerSession[bytes]):
    def __init__(self, captures: _Captures) -> None:
        self._captures = captures
        self._channel: asyncssh.SSHServerChannel[bytes] | None = None
        self._command = ""
        self._answering: asyncio.Task[None] | None = None

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self._channel = chan

    def exec_requested(self, command: str) -> bool:
        self._command = command
        return True

    def session_started(self) -> None:
        self._answering = asyncio.ensure_future(self._answer())

    async def _answer(self) -> None:
        capture = await self._captures.of(self._command)
        if self._channel and not self._channel.is_closing():
            self._channel.write(capture.stdout)
            self._channel.exit(capture.status)

    def connection_lost(self, exc: Exception | None) -> None:
        self._channel = None


class _Door(asyncssh.SSHServer):
    def __init__(self, key: asyncssh.SSHKey, captures: _Captures) -> None:
        self._key, self._captures = key, captures

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return key.public_data == self._key.public_data

    def session_requested(self) -> asyncssh.SSHServerSession[bytes]:
        return _Session(self._captures)


def _loopback_socket() -> socket.socket:
    """Return a socket that hears every address of 127.0.0.0/8 and nothing from outside."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
    sock.bind(("0.0.0.0", 0))
    return sock


async def _serve(key_file: str, host_key_file: str) -> None:
    key, captures = asyncssh.read_private_key(key_file), _Captures()
    server = await asyncssh.create_server(
        lambda: _Door(key, captures),
        sock=_loopback_socket(),
        server_host_keys=[host_key_file],
        encoding=None,
        line_editor=False,
        allow_pty=False,
        compression_algs=None,
        backlog=BACKLOG,
        login_timeout=60,
    )
    reply({"port": server.get_port()})
    await asyncio.to_thread(sys.stdin.read)  # ends with the bench


if __name__ == "__main__":
    asyncio.run(_serve(**read_order()))
