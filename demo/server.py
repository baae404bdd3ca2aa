"""A demo node: an SSH server on loopback that runs real commands on this machine, as sshd would for this user."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import pwd
import signal
import struct
import sys
import termios
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import asyncssh

from demo.state import DemoError, State

Channel: TypeAlias = asyncssh.SSHServerProcess[bytes]

ADDRESS = "127.0.0.1"
ENGINE_NODE = "demo-1"
"""The one that has the Docker Engine of this machine, where there is one: three would be in each other's way."""
ENGINE_SOCKET = "/var/run/docker.sock"
# what sshd gives its commands, and at the end our own Python: Ansible needs one, this machine may have no other
NODE_PATH = f"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:{Path(sys.executable).parent}"


def login() -> str:
    """Return the name of the user that the demo runs as: the only one its nodes know."""
    return pwd.getpwuid(os.getuid()).pw_name


@dataclass(frozen=True, slots=True)
class _Node:
    """The node that a server is."""

    state: State
    name: str

    def engine_socket(self) -> str | None:
        """Return where its Docker Engine is on this machine; None where it has none."""
        return self.state.engine_socket() if self.name == ENGINE_NODE else None

    def environment(self) -> dict[str, str]:
        """Return what commands get; nothing else of the server's own environment reaches them."""
        user, engine = login(), self.engine_socket()
        own = {"HOME": str(self.state.home(self.name)), "LOGNAME": user, "PATH": NODE_PATH, "SHELL": "/bin/sh"}
        return {**own, "USER": user, **({"DOCKER_HOST": f"unix://{engine}"} if engine else {})}


class _Door(asyncssh.SSHServer):
    def __init__(self, node: _Node, key: asyncssh.SSHKey) -> None:
        self._node, self._key = node, key

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def unix_connection_requested(self, dest_path: str) -> Any:
        """Lead to the engine, and to no other socket of this machine."""
        socket = self._node.engine_socket() if dest_path == ENGINE_SOCKET else None
        return self._connection.forward_unix_connection(socket) if socket else False

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == login() and key.public_data == self._key.public_data


@dataclass(frozen=True, slots=True)
class _Command:
    """A command that runs, and its ends of what it reads and writes.

    :param outputs: what to read from, and the part of the channel to which it goes
    """

    child: asyncio.subprocess.Process
    stdin: asyncio.StreamWriter
    outputs: list[tuple[asyncio.StreamReader, asyncssh.SSHWriter[bytes]]]
    on_terminal: bool


async def _with_pipes(channel: Channel, argv: list[str], environment: dict[str, str]) -> _Command:
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        *argv, stdin=pipe, stdout=pipe, stderr=pipe, cwd=environment["HOME"], env=environment, start_new_session=True
    )
    assert child.stdin and child.stdout and child.stderr  # noqa: PT018 - three pipes were asked for
    return _Command(child, child.stdin, [(child.stdout, channel.stdout), (child.stderr, channel.stderr)], False)


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


async def _with_terminal(channel: Channel, argv: list[str], environment: dict[str, str]) -> _Command:
    ours, its = os.openpty()
    loop = asyncio.get_running_loop()
    try:
        child = await asyncio.create_subprocess_exec(
            *argv,
            stdin=its,
            stdout=its,
            stderr=its,
            cwd=environment["HOME"],
            env={**environment, "TERM": channel.term_type or "dumb"},
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
    finally:
        os.close(its)
    writing = os.fdopen(os.dup(ours), "wb", buffering=0)
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await loop.connect_read_pipe(lambda: protocol, os.fdopen(ours, "rb", buffering=0))
    transport, writer_protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, writing)
    writer = asyncio.StreamWriter(transport, writer_protocol, None, loop)
    _resize(writer, *channel.term_size)
    return _Command(child, writer, [(reader, channel.stdout)], True)


def _resize(terminal: asyncio.StreamWriter, width: int, height: int, pixel_width: int, pixel_height: int) -> None:
    size = struct.pack("HHHH", height, width, pixel_width, pixel_height)
    fcntl.ioctl(terminal.get_extra_info("pipe"), termios.TIOCSWINSZ, size)


async def _read_input(channel: Channel, command: _Command) -> bytes:
    """Return the next input, ``b""`` at its end; pass on the signals and sizes that come between."""
    while True:
        try:
            return await channel.stdin.read(65536)
        except asyncssh.SignalReceived as received:
            number = getattr(signal, f"SIG{received.signal}", None)
            if isinstance(number, signal.Signals):
                os.killpg(command.child.pid, number)
        except asyncssh.TerminalSizeChanged as size:
            _resize(command.stdin, size.width, size.height, size.pixwidth, size.pixheight)
        except asyncssh.BreakReceived:
            pass


async def _copy_input(channel: Channel, command: _Command) -> None:
    # the command may end, or close its input, before it has read everything
    with contextlib.suppress(OSError):
        while data := await _read_input(channel, command):
            command.stdin.write(data)
            await command.stdin.drain()
    if not command.on_terminal:  # a terminal has no end
        command.stdin.close()


async def _copy_output(reader: asyncio.StreamReader, writer: asyncssh.SSHWriter[bytes]) -> None:
    while True:
        try:
            data = await reader.read(65536)
        except OSError:  # EIO: how a terminal says that nobody has it open any more
            return
        if not data:
            return
        writer.write(data)
        await writer.drain()


async def _finish(channel: Channel, command: _Command) -> None:
    await asyncio.gather(*(_copy_output(*output) for output in command.outputs))
    status = await command.child.wait()
    if status < 0:
        channel.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
    else:
        channel.exit(status)


async def _end(child: asyncio.subprocess.Process) -> None:
    """End the command and what it started, but not what it put into a session of its own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(child.wait(), 2)


async def _run(node: _Node, channel: Channel) -> None:
    argv = ["/bin/sh"] if channel.command is None else ["/bin/sh", "-c", channel.command]
    begin = _with_pipes if channel.term_type is None else _with_terminal
    command = await begin(channel, argv, node.environment())
    feed = asyncio.ensure_future(_copy_input(channel, command))
    relay = asyncio.ensure_future(_finish(channel, command))
    closed = asyncio.ensure_future(channel.wait_closed())
    try:
        await asyncio.wait({relay, closed}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (feed, relay, closed):
            task.cancel()
        command.stdin.close()
        if command.child.returncode is None:
            await _end(command.child)
        # a channel that went away is no fault of the server
        await asyncio.gather(feed, relay, closed, return_exceptions=True)


async def _listen(state: State, name: str, ports: Sequence[int]) -> asyncssh.SSHAcceptor:
    key, node = asyncssh.read_private_key(state.key), _Node(state, name)
    state.home(name).mkdir(mode=0o700, parents=True, exist_ok=True)
    for port in ports:
        try:
            return await asyncssh.create_server(
                lambda: _Door(node, key),
                ADDRESS,
                port,
                server_host_keys=[str(state.host_key(name))],
                process_factory=partial(_run, node),
                sftp_factory=True,
                encoding=None,
                line_editor=False,
                login_timeout=20,
                keepalive_interval=30,
            )
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    taken = " ".join(map(str, ports))
    raise DemoError(f"node {name}: taken by other programs: port {taken} on {ADDRESS}")


async def _serve(state: State, name: str, ports: Sequence[int]) -> None:
    server = await _listen(state, name, ports)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    state.write_port(name, os.getpid(), server.get_port())
    await stopped.wait()
    server.close()
    # commands that run are ended as their channels close
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    if rest:
        await asyncio.wait(rest, timeout=5)


def serve(state: State, name: str, ports: Sequence[int]) -> None:
    """Be node ``name`` until SIGTERM, at the first of ``ports`` that is free.

    :raises DemoError: none is
    """
    asyncio.run(_serve(state, name, ports))
