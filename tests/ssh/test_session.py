"""Sessions against a real sshd, and against servers that behave badly."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from evc.errors import ConnectionCut, HostKeyChanged, LoginRefused, NodeTimeout, NodeUnreachable
from evc.fleet.nodes import Node
from evc.ssh.credentials import Credentials, load_credentials
from evc.ssh.session import Ended, Session, fingerprint, open_session
from tests.servers.sshd import SshServer, free_port, running_sshd


def login(server: SshServer) -> Credentials:
    return load_credentials("evc_nodes", login=server.user, key_file=str(server.key_file))


@asynccontextmanager
async def opened(
    node: Node, credentials: Credentials, timeout_s: float = 10, via: Session | None = None
) -> AsyncIterator[Session]:
    session = await open_session(node, credentials, timeout_s=timeout_s, exchanges=asyncio.Semaphore(4), via=via)
    try:
        yield session
    finally:
        await session.close()


async def refused(node: Node, credentials: Credentials, timeout_s: float = 10) -> None:
    async with opened(node, credentials, timeout_s):
        raise AssertionError("a session was opened")


def test_a_command_s_answer_and_status_come_back(sshd: SshServer) -> None:
    async def main() -> None:
        async with opened(sshd.node(), login(sshd)) as session:
            assert session.host_key == sshd.host_key
            reply = await session.run("printf 'a\\0b'; echo to stderr >&2; exit 7", timeout_s=10)
        assert (reply.stdout, reply.status, reply.ended) == (b"a\0b", 7, Ended.EXIT)

    asyncio.run(main())


def test_the_pinned_key_is_accepted_and_any_other_refused(sshd: SshServer, tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(sshd.node(host_key=sshd.host_key), login(sshd)):
            pass
        with running_sshd(tmp_path / "other") as other:
            with pytest.raises(HostKeyChanged) as caught:
                await refused(sshd.node(host_key=other.host_key), login(sshd))
        assert caught.value.expected == fingerprint(other.host_key)
        assert caught.value.presented == fingerprint(sshd.host_key)
        assert str(caught.value).startswith("edge1: host key changed: pinned SHA256:")

    asyncio.run(main())


def test_a_host_that_no_longer_has_a_key_of_the_pinned_type_is_refused(tmp_path: Path) -> None:
    with running_sshd(tmp_path / "one") as one, running_sshd(tmp_path / "two", key_type="ecdsa") as two:
        with pytest.raises(HostKeyChanged) as caught:
            asyncio.run(refused(two.node(host_key=one.host_key), login(two)))
        assert caught.value.presented == fingerprint(two.host_key)


@pytest.mark.parametrize("key_type", ["ecdsa", "rsa"])
def test_other_key_types_can_be_pinned(tmp_path: Path, key_type: str) -> None:
    async def main(server: SshServer) -> None:
        async with opened(server.node(host_key=server.host_key), login(server)) as session:
            assert session.host_key == server.host_key

    with running_sshd(tmp_path, key_type=key_type) as server:
        asyncio.run(main(server))


def test_a_wrong_key_is_named_with_user_and_connection(sshd: SshServer, tmp_path: Path) -> None:
    with running_sshd(tmp_path) as other:
        stranger = load_credentials("evc_nodes", login=sshd.user, key_file=str(other.key_file))
    with pytest.raises(
        LoginRefused, match=f"edge1: .* refused user {sshd.user} with the login of connection evc_nodes"
    ):
        asyncio.run(refused(sshd.node(), stranger))


def test_a_wrong_user_is_refused(sshd: SshServer) -> None:
    with pytest.raises(LoginRefused, match="refused user nosuchuser"):
        asyncio.run(refused(sshd.node(user="nosuchuser"), login(sshd)))


def test_a_closed_port_is_unreachable(sshd: SshServer) -> None:
    port = free_port()
    with pytest.raises(NodeUnreachable, match=f"edge1: 127.0.0.1 port {port}: Connection refused"):
        asyncio.run(refused(Node("edge1", "127.0.0.1", port), login(sshd)))


def test_a_name_that_does_not_resolve_is_unreachable(sshd: SshServer) -> None:
    with pytest.raises(NodeUnreachable, match="edge1: no-such-host.invalid port 22: name does not resolve"):
        asyncio.run(refused(Node("edge1", "no-such-host.invalid"), login(sshd)))


def test_a_host_that_accepts_and_says_nothing_is_a_time_out(sshd: SshServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        node = Node("edge1", "127.0.0.1", mute.getsockname()[1])
        with pytest.raises(NodeTimeout, match=r"no SSH banner within 0\.3 s"):
            asyncio.run(refused(node, login(sshd), timeout_s=0.3))


@asynccontextmanager
async def badly(behave: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]) -> AsyncIterator[Node]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behave(reader, writer)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield Node("edge1", "127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        server.close()


def test_a_banner_and_then_silence_is_a_time_out(sshd: SshServer) -> None:
    async def main() -> None:
        async with badly(lambda _, writer: writer.write(b"SSH-2.0-mute\r\n")) as node:
            with pytest.raises(NodeTimeout, match=r"no login within 0\.5 s"):
                await refused(node, login(sshd), timeout_s=0.5)

    asyncio.run(main())


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\xff" * 5000])
def test_what_is_not_ssh_is_unreachable(sshd: SshServer, sent: bytes) -> None:
    def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        writer.close()

    async def main() -> None:
        async with badly(behave) as node:
            with pytest.raises((NodeUnreachable, ConnectionCut)) as caught:
                await refused(node, login(sshd), timeout_s=5)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300

    asyncio.run(main())


def test_a_late_answer_counts_up_to_the_time_out(sshd: SshServer) -> None:
    async def main() -> None:
        async with opened(sshd.node(), login(sshd)) as session:
            reply = await session.run("echo early; exec sleep 20", timeout_s=1)
            assert (reply.stdout, reply.status, reply.ended) == (b"early\n", None, Ended.TIMEOUT)
            assert (await session.run("echo on", timeout_s=10)).stdout == b"on\n"

    asyncio.run(main())


def test_a_long_answer_is_bounded(sshd: SshServer) -> None:
    async def main() -> None:
        async with opened(sshd.node(), login(sshd)) as session:
            reply = await session.run("head -c 10000000 /dev/zero", timeout_s=20, max_bytes=50_000)
            assert (len(reply.stdout), reply.ended) == (50_000, Ended.LIMIT)
            assert (await session.run("echo on", timeout_s=10)).stdout == b"on\n"

    asyncio.run(main())


def test_stderr_counts_towards_the_bound(sshd: SshServer) -> None:
    async def main() -> None:
        async with opened(sshd.node(), login(sshd)) as session:
            reply = await session.run("echo out; head -c 10000000 /dev/zero >&2", timeout_s=20, max_bytes=50_000)
            assert (reply.stdout, reply.ended) == (b"out\n", Ended.LIMIT)

    asyncio.run(main())


def test_what_a_node_says_reaches_an_error_without_control_characters(sshd: SshServer) -> None:
    def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-1.0-\x1b[31mred\x07\r\n")
        writer.close()

    async def main() -> None:
        async with badly(behave) as node:
            with pytest.raises((NodeUnreachable, ConnectionCut)) as caught:
                await refused(node, login(sshd), timeout_s=5)
        assert str(caught.value).isprintable()

    asyncio.run(main())


def test_a_connection_cut_in_mid_answer_keeps_what_came(sshd: SshServer) -> None:
    async def main() -> None:
        async with opened(sshd.node(), login(sshd)) as session:
            running = asyncio.create_task(session.run("echo half; sleep 60", timeout_s=20))
            await asyncio.sleep(0.5)
            for pid in sshd.sessions():
                os.kill(pid, signal.SIGKILL)
            reply = await running
            assert (reply.stdout, reply.ended) == (b"half\n", Ended.CUT)
            with pytest.raises(ConnectionCut, match="edge1: "):
                await session.run("true", timeout_s=5)

    asyncio.run(main())


def test_through_a_jump_node(sshd: SshServer, tmp_path: Path) -> None:
    async def main(behind: SshServer) -> None:
        async with opened(sshd.node("jump"), login(sshd)) as jump:
            node = behind.node("behind", jump_node="jump", host_key=behind.host_key)
            async with opened(node, login(behind), via=jump) as session:
                reply = await session.run('echo "$SSH_CONNECTION"', timeout_s=10)
                assert reply.stdout.split()[-1] == str(behind.port).encode()
            nowhere = Node("behind", "127.0.0.1", free_port(), jump_node="jump")
            with pytest.raises(NodeUnreachable, match="behind: 127.0.0.1 port"):
                async with opened(nowhere, login(behind), via=jump):
                    pass

    with running_sshd(tmp_path / "behind") as behind:
        asyncio.run(main(behind))


def test_no_descriptor_is_left_behind(sshd: SshServer) -> None:
    async def main() -> None:
        closed = Node("edge1", "127.0.0.1", free_port())
        for node in (closed, sshd.node(user="nosuchuser"), sshd.node(host_key="ssh-ed25519 " + "A" * 68)):
            for _ in range(5):
                with pytest.raises((NodeUnreachable, LoginRefused, HostKeyChanged, ValueError)):
                    await refused(node, login(sshd))
        await asyncio.sleep(0.1)

    before = list(Path("/proc/self/fd").iterdir())
    asyncio.run(main())
    assert len(list(Path("/proc/self/fd").iterdir())) <= len(before)
