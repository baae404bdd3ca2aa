"""One SSH session to a node: a pinned host key, and commands with bounded time and answers."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import getpass
import hashlib
import logging
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import asyncssh

from evc.errors import ConnectionCut, HostKeyChanged, LoginRefused, NodeError, NodeTimeout, NodeUnreachable
from evc.fleet.nodes import Node
from evc.ssh.credentials import Credentials
from evc.ssh.dial import dial, raise_if_ours

MAX_ANSWER_BYTES = 1_000_000
MAX_LINE_BYTES = 65_536
# at INFO it writes ten lines for each command of each node, the command included
logging.getLogger("asyncssh").setLevel(logging.WARNING)
_KEEPALIVE_S = 15


def _local_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "evc"  # a container's user without a line in /etc/passwd


# the library asks for the local user's name at each connection, though nothing here uses it: found out once
os.environ.setdefault("LOGNAME", _local_name())
# what OpenSSH offers, the cheapest here first: GCM is one call of OpenSSL a packet, chacha20 is three made in Python
_CIPHERS = [
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
]
_HOST_KEY_ALGORITHMS = {
    "ssh-ed25519": ["ssh-ed25519"],
    "ecdsa-sha2-nistp256": ["ecdsa-sha2-nistp256"],
    "ecdsa-sha2-nistp384": ["ecdsa-sha2-nistp384"],
    "ecdsa-sha2-nistp521": ["ecdsa-sha2-nistp521"],
    "ssh-rsa": ["rsa-sha2-512", "rsa-sha2-256"],
}


class Ended(StrEnum):
    """How an answer ended."""

    EXIT = "exit"
    TIMEOUT = "timeout"
    LIMIT = "limit"
    CUT = "cut"


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back of one command.

    :param stdout: as sent, up to the limit
    :param status: exit status; None unless it ended by itself
    :param ended: ``EXIT`` where nothing is missing
    """

    stdout: bytes
    status: int | None
    ended: Ended


class _Client(asyncssh.SSHClient):
    """Compares the key that a host presents with the one that is pinned; the library then proves its possession."""

    def __init__(self, pinned: str | None) -> None:
        self.pinned = pinned
        self.presented: asyncssh.SSHKey | None = None

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.presented = key
        self.pinned = self.pinned or key_text(key)  # also for the key exchanges that follow on this connection
        return key_text(key) == self.pinned


class _Channel(asyncssh.SSHClientSession[bytes]):
    """Collects an answer and ends the channel as soon as it is longer than allowed."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._size = 0
        self._chan: asyncssh.SSHClientChannel[bytes] | None = None
        self.over_limit = False
        self.status: int | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def stdout(self) -> bytes:
        return b"".join(self._parts)

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._chan = chan

    def data_received(self, data: bytes, datatype: Any) -> None:
        if self.over_limit:
            return
        if datatype is None:
            self._parts.append(data[: self._max_bytes - self._size])
        self._size += len(data)  # what comes on stderr is not kept, but costs as much
        if self._size >= self._max_bytes and self._chan:
            self.over_limit = True
            self._chan.abort()

    @property
    def is_started(self) -> bool:
        """Whether the node has opened the channel."""
        return self._chan is not None

    def end(self) -> None:
        """Kill what hangs on the node and give the channel up. OpenSSH since 7.9 passes signals on, save for root."""
        if self._chan:
            with contextlib.suppress(asyncssh.Error, OSError):
                self._chan.kill()
            self._chan.abort()

    def exit_status_received(self, status: int) -> None:
        self.status = status

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)


class Session:
    """An open SSH connection to a node.

    :param host_key: the key that the node has proved to hold, ``TYPE BASE64``
    """

    def __init__(self, node: Node, connection: asyncssh.SSHClientConnection, host_key: str) -> None:
        self.node = node
        self.connection = connection
        self.host_key = host_key

    @property
    def is_open(self) -> bool:
        return not self.connection.is_closed()

    async def run(self, command: str, *, timeout_s: float, max_bytes: int = MAX_ANSWER_BYTES) -> Reply:
        """Run ``command`` in the node's login shell and return what it printed, even where the end is missing.

        :param command: a fixed text of ours, never pasted together with what came from a user or a node
        :raises ConnectionCut: the connection was gone before the command could start
        :raises NodeTimeout: the node did not start it in time
        """
        channel = _Channel(max_bytes)
        ended = Ended.EXIT
        try:
            async with asyncio.timeout(timeout_s):
                await self.connection.create_session(lambda: channel, command, encoding=None)
                await channel.closed
        except TimeoutError:
            if not channel.is_started:
                raise NodeTimeout(f"{self.node.name}: no command started within {timeout_s:g} s") from None
            ended = Ended.TIMEOUT
            channel.end()
        except (asyncssh.Error, OSError) as error:
            raise ConnectionCut(f"{self.node.name}: {_reason(error)}") from None
        if channel.over_limit:
            ended = Ended.LIMIT
        elif channel.status is None and ended is Ended.EXIT:
            ended = Ended.CUT
        return Reply(channel.stdout, channel.status, ended)

    async def follow(
        self, command: str, on_line: Callable[[str], None], *, stdin: bytes = b"", timeout_s: float
    ) -> int | None:
        """Run ``command`` and hand over each line of its stdout and stderr as it comes; returns its exit status.

        None where it ended without one, e.g. by a signal. What is not UTF-8 is shown as ``\\xNN``.

        :param command: a fixed text of ours; what came from a user goes to it through ``stdin``
        :raises NodeTimeout: it was not over in time; it was told to end
        :raises ConnectionCut: the connection was gone
        """
        try:
            async with (
                asyncio.timeout(timeout_s),
                self.connection.create_process(command, encoding=None, stderr=asyncssh.STDOUT) as process,
            ):
                process.stdin.write(stdin)
                process.stdin.write_eof()
                try:
                    async for line in _lines(process.stdout):
                        on_line(line)
                    await process.wait_closed()
                except asyncio.CancelledError:
                    process.kill()
                    raise
                status = process.exit_status
        except TimeoutError:
            raise NodeTimeout(f"{self.node.name}: not over within {timeout_s:g} s") from None
        except (asyncssh.Error, OSError) as error:
            raise ConnectionCut(f"{self.node.name}: {_reason(error)}") from None
        if not self.is_open:
            raise ConnectionCut(f"{self.node.name}: the connection was cut")
        return None if status is None or status < 0 else status

    async def close(self) -> None:
        """End the connection; a peer that does not answer is not waited for."""
        self.connection.close()
        with contextlib.suppress(TimeoutError, asyncssh.Error, OSError):
            await asyncio.wait_for(self.connection.wait_closed(), 2)
        self.connection.abort()


async def _lines(stream: asyncssh.SSHReader[bytes]) -> AsyncIterator[str]:
    """Yield lines without their end; what is longer than MAX_LINE_BYTES comes in pieces."""
    rest = b""
    while chunk := await stream.read(MAX_LINE_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            lines, rest = [*lines, rest], b""
        for line in lines:
            yield line.rstrip(b"\r").decode("utf-8", "backslashreplace")
    if rest:
        yield rest.decode("utf-8", "backslashreplace")


def key_text(key: asyncssh.SSHKey) -> str:
    """Return a public key as ``TYPE BASE64``, without the comment."""
    return " ".join(key.export_public_key("openssh").decode("ascii").split()[:2])


def fingerprint(host_key: str) -> str:
    """Return ``SHA256:...`` of a key given as ``TYPE BASE64``, as ``ssh-keygen -l`` prints it."""
    digest = hashlib.sha256(base64.b64decode(host_key.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode('ascii').rstrip('=')}"


async def open_session(
    node: Node,
    credentials: Credentials,
    *,
    timeout_s: float,
    exchanges: asyncio.Semaphore,
    via: Session | None = None,
) -> Session:
    """Log in to ``node``, through the session ``via`` where it has a jump node.

    :param timeout_s: for TCP up to the first byte, and again for key exchange and login
    :param exchanges: places for key exchanges at the same time
    :raises NodeError: the kind says who has to mend what; ``HostKeyChanged`` before any secret is sent
    """
    sock = None if via else await dial(node.name, node.host, node.port, timeout_s)
    client = _Client(node.host_key)
    where = f"{node.name}: {node.host} port {node.port}"
    unused = sock
    try:
        # a way through a jump node can't be dialled first, so a silent node behind one must hold no place for others
        async with contextlib.nullcontext() if via else exchanges, asyncio.timeout(timeout_s):
            options = _options(node, credentials, client)
            unused = None  # from here on the library closes it
            connection = await asyncssh.connect(
                node.host,
                node.port,
                sock=sock,
                tunnel=via.connection if via else None,
                options=options,
            )
    except TimeoutError:
        raise NodeTimeout(f"{where}: no login within {timeout_s:g} s") from None
    except (asyncssh.Error, OSError, ValueError) as error:
        raise_if_ours(error)
        raise _node_error(where, node, credentials, client, error) from None
    finally:
        if unused is not None:
            unused.close()
    key = connection.get_server_host_key()
    if key is None:
        raise NodeUnreachable(f"{where}: presented no host key")
    return Session(node, connection, key_text(key))


def _options(node: Node, credentials: Credentials, client: _Client) -> asyncssh.SSHClientConnectionOptions:
    # the pinned type first: a node with several keys presents that one, and one that lost it shows what it has instead
    pinned = node.host_key.split()[0] if node.host_key else ""
    kinds = sorted(_HOST_KEY_ALGORITHMS, key=lambda kind: kind != pinned)
    return asyncssh.SSHClientConnectionOptions(
        username=node.user or credentials.login,
        client_keys=list(credentials.keys) or None,
        password=credentials.password,
        known_hosts=([], [], []),  # nothing is trusted by file: validate_host_public_key decides
        server_host_key_algs=[algorithm for kind in kinds for algorithm in _HOST_KEY_ALGORITHMS[kind]],
        client_factory=lambda: client,
        config=None,  # neither ~/.ssh/config nor an agent of whoever runs Airflow has a say
        agent_path=None,
        gss_host=None,
        x509_trusted_certs=None,
        compression_algs=None,
        encryption_algs=_CIPHERS,
        keepalive_interval=_KEEPALIVE_S,
        keepalive_count_max=2,
    )


def _node_error(where: str, node: Node, credentials: Credentials, client: _Client, error: Exception) -> NodeError:
    user = node.user or credentials.login
    if isinstance(error, asyncssh.PermissionDenied):
        return LoginRefused(f"{where}: refused user {user} with the login of connection {credentials.conn_id}")
    if node.host_key and client.presented and key_text(client.presented) != node.host_key:
        return HostKeyChanged(node.name, fingerprint(node.host_key), client.presented.get_fingerprint())
    if isinstance(error, asyncssh.ConnectionLost):
        return ConnectionCut(f"{where}: {_reason(error)}")
    return NodeUnreachable(f"{where}: {_reason(error)}")


def _reason(error: Exception) -> str:
    """Return the error's own words on one short line: they may hold what the node sent."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    words = (getattr(error, "reason", None) or str(error) or type(error).__name__)[:200]
    return "".join(c if c.isprintable() else "?" for c in words)
