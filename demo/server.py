"""A demo node: an SSH server on loopback that runs real commands on this machine, as sshd would for this user."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import pwd
import signal
import sys
from dataclasses import asdict
from pathlib import Path

import asyncssh

from demo import process
from demo.state import DemoError, State

ADDRESS = "127.0.0.1"
PORTS = range(2201, 2300)
# what sshd gives its commands, and at the end our own Python: Ansible needs one, this machine may have no other
_PATH = f"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:{Path(sys.executable).parent}"


def login() -> str:
    """Return the name of the user that the demo runs as: the only one its nodes know."""
    return pwd.getpwuid(os.getuid()).pw_name


def _environment() -> dict[str, str]:
    """Return what commands get; nothing else of the server's own environment reaches them."""
    user = pwd.getpwuid(os.getuid())
    home = user.pw_dir if Path(user.pw_dir).is_dir() else "/"
    return {"HOME": home, "LOGNAME": user.pw_name, "PATH": _PATH, "SHELL": "/bin/sh", "USER": user.pw_name}


class _Door(asyncssh.SSHServer):
    def __init__(self, key: asyncssh.SSHKey) -> None:
        self._key = key

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == login() and key.public_data == self._key.public_data


async def _read_input(channel: asyncssh.SSHServerProcess[bytes], child: asyncio.subprocess.Process) -> bytes:
    """Return the next input, ``b""`` at its end; pass on the signals that come between."""
    while True:
        try:
            return await channel.stdin.read(65536)
        except asyncssh.SignalReceived as received:
            number = getattr(signal, f"SIG{received.signal}", None)
            if isinstance(number, signal.Signals):
                os.killpg(child.pid, number)
        except (asyncssh.BreakReceived, asyncssh.TerminalSizeChanged):
            pass


async def _copy_input(channel: asyncssh.SSHServerProcess[bytes], child: asyncio.subprocess.Process) -> None:
    assert child.stdin
    # the command may end, or close its input, before it has read everything
    with contextlib.suppress(OSError):
        while data := await _read_input(channel, child):
            child.stdin.write(data)
            await child.stdin.drain()
    child.stdin.close()


async def _copy_output(reader: asyncio.StreamReader | None, writer: asyncssh.SSHWriter[bytes]) -> None:
    assert reader
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def _finish(channel: asyncssh.SSHServerProcess[bytes], child: asyncio.subprocess.Process) -> None:
    await asyncio.gather(_copy_output(child.stdout, channel.stdout), _copy_output(child.stderr, channel.stderr))
    status = await child.wait()
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


async def _run(channel: asyncssh.SSHServerProcess[bytes]) -> None:
    environment = _environment()
    command = ["/bin/sh"] if channel.command is None else ["/bin/sh", "-c", channel.command]
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=environment["HOME"],
        env=environment,
        start_new_session=True,
    )
    feed = asyncio.ensure_future(_copy_input(channel, child))
    relay = asyncio.ensure_future(_finish(channel, child))
    closed = asyncio.ensure_future(channel.wait_closed())
    try:
        await asyncio.wait({relay, closed}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (feed, relay, closed):
            task.cancel()
        if child.returncode is None:
            await _end(child)
        # a channel that went away is no fault of the server
        await asyncio.gather(feed, relay, closed, return_exceptions=True)


async def _listen(state: State, name: str, port: int | None) -> asyncssh.SSHAcceptor:
    key = asyncssh.read_private_key(state.key)
    for candidate in PORTS if port is None else (port,):
        try:
            return await asyncssh.create_server(
                lambda: _Door(key),
                ADDRESS,
                candidate,
                server_host_keys=[str(state.host_key(name))],
                process_factory=_run,
                sftp_factory=True,
                encoding=None,
                line_editor=False,
                allow_pty=False,
                login_timeout=20,
                keepalive_interval=30,
            )
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    if port is None:
        raise DemoError(f"node {name}: no free port from {PORTS[0]} to {PORTS[-1]} on {ADDRESS}")
    raise DemoError(f"node {name}: port {port}, with which it is registered, is taken by another program")


async def _serve(state: State, name: str, port: int | None) -> None:
    server = await _listen(state, name, port)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    state.write_record(name, {**asdict(process.current()), "port": server.get_port()})
    await stopped.wait()
    server.close()
    # commands that run are ended as their channels close
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    if rest:
        await asyncio.wait(rest, timeout=5)


def serve(state: State, name: str, port: int | None) -> None:
    """Be node ``name`` until SIGTERM.

    :param port: where it is registered; None means the first free one
    :raises DemoError: no port
    """
    asyncio.run(_serve(state, name, port))
