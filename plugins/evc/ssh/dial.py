"""TCP to a node, up to the moment it speaks.

Waiting for a silent host costs nothing, a key exchange costs processor time. So the wait happens here, for all nodes at
once, and only a host that has begun to speak SSH gets one of the few places for a key exchange.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from evc.errors import EvcError, NodeTimeout, NodeUnreachable


def _new_resolvers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(64, thread_name_prefix="evc-resolver")


_resolvers = _new_resolvers()


def _renew_resolvers() -> None:
    global _resolvers  # noqa: PLW0603
    _resolvers = _new_resolvers()


# a fork has none of its parent's threads, but would wait for one that was idle there
os.register_at_fork(after_in_child=_renew_resolvers)


def _resolve(host: str, port: int) -> list[Any]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


async def dial(name: str, host: str, port: int, timeout_s: float) -> socket.socket:
    """Return a connected socket whose peer has sent something.

    :raises NodeUnreachable: the name does not resolve, nothing listens, or the peer closed at once
    :raises NodeTimeout: no TCP connection, or not a byte, within ``timeout_s``
    """
    where = f"{name}: {host} port {port}"
    stage = "TCP connection"
    sock: socket.socket | None = None
    try:
        async with asyncio.timeout(timeout_s):
            sock = await _connect(where, host, port)
            stage = "SSH banner"
            await _readable(sock)
        if not sock.recv(1, socket.MSG_PEEK):
            raise NodeUnreachable(f"{where}: closed the connection at once")
    except TimeoutError:
        _close(sock)
        raise NodeTimeout(f"{where}: no {stage} within {timeout_s:g} s") from None
    except OSError as error:
        _close(sock)
        raise_if_ours(error)
        raise NodeUnreachable(f"{where}: {os.strerror(error.errno) if error.errno else error}") from None
    except BaseException:
        _close(sock)
        raise
    return sock


def raise_if_ours(error: Exception) -> None:
    """Raise what no node can be blamed for.

    :raises EvcError: this process or this machine has no file descriptor left
    """
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        raise EvcError(
            f"{os.strerror(error.errno)}: raise the limit (ulimit -n) or lower [evc] nodes_per_task"
        ) from None


async def _connect(where: str, host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    try:
        # threads of their own: a resolver that hangs delays neither other names' look-ups nor the writer
        infos = await loop.run_in_executor(_resolvers, _resolve, host, port)
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        raise NodeUnreachable(f"{where}: name does not resolve: {reason}") from None
    failure: OSError | None = None
    for family, kind, protocol, _, address in infos:
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
    raise failure or OSError("no address")


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(sock, wake)
    try:
        await ready
    finally:
        loop.remove_reader(sock)


def _close(sock: socket.socket | None) -> None:
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.close()
