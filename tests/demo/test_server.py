"""Demo nodes as real SSH servers in processes of their own: asyncssh, OpenSSH and Ansible as clients."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import pytest

from demo.nodes import FLEET, PORTS, start_nodes
from demo.process import family, find, is_running, stop
from demo.server import ADDRESS, ENGINE_SOCKET, login
from demo.state import DemoError, State


@dataclass(frozen=True, slots=True)
class Fleet:
    state: State
    ports: dict[str, int]

    @asynccontextmanager
    async def connected(self, **options: object) -> AsyncIterator[asyncssh.SSHClientConnection]:
        given: dict[str, object] = {
            "username": login(),
            "client_keys": [str(self.state.key)],
            "known_hosts": None,
            "config": None,
            "port": self.ports["demo-1"],
        }
        async with asyncssh.connect(ADDRESS, agent_path=None, **{**given, **options}) as connection:
            yield connection


def _make_state(folder: Path) -> State:
    state = State(folder)
    state.make_folders()
    state.make_keys(tuple(node.name for node in FLEET))
    return state


def _free_port() -> int:
    """Return a port that the system would not soon give to another."""
    with socket.socket() as free:
        free.bind((ADDRESS, 0))
        return int(free.getsockname()[1])


def _stop(state: State) -> None:
    assert stop([root for node in FLEET if (root := state.started(node.name))]) == set()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    state = _make_state(tmp_path_factory.mktemp("state of the demo"))
    try:
        yield Fleet(state, start_nodes(state, {node.name: _free_port() for node in FLEET}))
    finally:
        _stop(state)


def _run(fleet: Fleet, command: str, given: bytes = b"") -> asyncssh.SSHCompletedProcess:
    async def run() -> asyncssh.SSHCompletedProcess:
        async with fleet.connected() as connection:
            return await asyncio.wait_for(connection.run(command, input=given, encoding=None), 30)

    return asyncio.run(run())


def _output(fleet: Fleet, command: str, given: bytes = b"") -> bytes:
    output = _run(fleet, command, given).stdout
    assert isinstance(output, bytes)
    return output


def test_three_nodes_are_three_processes_with_keys_of_their_own(fleet: Fleet) -> None:
    processes = [fleet.state.started(node.name) for node in FLEET]
    assert len({process.pid for process in processes if process and is_running(process)}) == 3
    assert len(set(fleet.ports.values())) == 3
    assert len({fleet.state.host_key(node.name).read_text() for node in FLEET}) == 3


def test_a_command_has_its_output_its_errors_and_its_status(fleet: Fleet) -> None:
    ran = _run(fleet, "cat; echo '한글 $HOME'; echo bad >&2; exit 7", given=b"in\0put\n")
    assert ran.stdout == b"in\0put\n" + "한글 $HOME\n".encode()
    assert ran.stderr == b"bad\n"
    assert ran.exit_status == 7


def test_errors_after_the_output_was_closed_arrive(fleet: Fleet) -> None:
    assert _run(fleet, "exec >&-; sleep 0.2; echo late >&2").stderr == b"late\n"


def test_a_killed_command_ends_with_its_signal(fleet: Fleet) -> None:
    ran = _run(fleet, "kill -9 $$")
    assert ran.exit_signal is not None
    assert ran.exit_signal[0] == "KILL"


def test_much_output_and_input_pass_whole(fleet: Fleet) -> None:
    assert len(_output(fleet, "head -c 20000000 /dev/zero")) == 20_000_000
    assert _output(fleet, "wc -c", given=bytes(20_000_000)) == b"20000000\n"


def test_a_command_that_reads_nothing_ends(fleet: Fleet) -> None:
    assert _run(fleet, "true", given=bytes(5_000_000)).exit_status == 0


def test_commands_get_the_environment_of_a_login_only(fleet: Fleet) -> None:
    names = {line.partition("=")[0] for line in _output(fleet, "env").decode().splitlines()}
    assert names <= {"HOME", "LOGNAME", "PATH", "SHELL", "USER", "PWD", "OLDPWD", "SHLVL", "_"}
    assert "HOME" in names


def test_what_runs_is_ended_when_the_connection_goes(fleet: Fleet) -> None:
    async def begin() -> int:
        async with fleet.connected() as connection:
            process = await connection.create_process("trap '' TERM; sleep 600 & echo $$; wait; wait")
            return int(await process.stdout.readline())

    pid = asyncio.run(begin())
    command = find(pid)
    server = fleet.state.started("demo-1")
    assert server
    deadline = 100
    while (command and is_running(command)) or len(family([server])) > 1:
        deadline -= 1
        assert deadline, "the command still runs"
        subprocess.run(["sleep", "0.1"], check=True)


def test_a_signal_reaches_the_command(fleet: Fleet) -> None:
    async def interrupt() -> asyncssh.SSHCompletedProcess:
        async with fleet.connected() as connection:
            process = await connection.create_process(
                "trap 'echo got it; exit 3' INT; echo ready; while :; do sleep 0.1; done"
            )
            await process.stdout.readline()
            process.send_signal("INT")
            return await asyncio.wait_for(process.wait(), 20)

    ended = asyncio.run(interrupt())
    assert (ended.stdout, ended.exit_status) == ("got it\n", 3)


@pytest.mark.parametrize("wrong", [{"username": "nobody-else"}, {"client_keys": "another"}, {"password": "secret"}])
def test_only_this_user_with_this_key_gets_in(fleet: Fleet, wrong: dict[str, object]) -> None:
    if wrong.get("client_keys"):
        wrong = {"client_keys": [asyncssh.generate_private_key("ssh-ed25519")]}
    elif "password" in wrong:
        wrong = {**wrong, "client_keys": None, "preferred_auth": "password,keyboard-interactive,none"}

    async def connect() -> None:
        async with fleet.connected(**wrong):
            pass

    with pytest.raises(asyncssh.PermissionDenied):
        asyncio.run(connect())


def test_nothing_listens_beyond_loopback(fleet: Fleet) -> None:
    for port in fleet.ports.values():
        with socket.socket() as other, pytest.raises(ConnectionRefusedError):
            other.connect(("127.0.0.2", port))


def test_files_are_copied_by_sftp(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "from").write_text("한글")

    async def copy() -> None:
        async with fleet.connected() as connection, connection.start_sftp_client() as sftp:
            await sftp.put(str(tmp_path / "from"), str(tmp_path / "to"))

    asyncio.run(copy())
    assert (tmp_path / "to").read_text() == "한글"


def test_a_terminal_is_one(fleet: Fleet) -> None:
    async def size() -> list[str]:
        async with fleet.connected() as connection:
            process = await connection.create_process(term_type="vt100", term_size=(101, 37))
            process.stdin.write("stty size; echo $TERM; tty; read a; stty size; exit 5\n")
            process.change_terminal_size(90, 20)
            process.stdin.write("\n")
            ended = await asyncio.wait_for(process.wait(), 20)
            assert ended.exit_status == 5
            return str(ended.stdout).split()

    words = asyncio.run(size())
    assert "vt100" in words
    assert any(word.startswith("/dev/pts/") for word in words)
    assert words[-2:] == ["20", "90"]


def test_ansible_pings_every_node(fleet: Fleet, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts.ini"
    hosts.write_text("".join(f"{name} ansible_port={port}\n" for name, port in fleet.ports.items()))
    no_pins = "-F none -o ControlPath=none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    variables = {
        "ansible_host": ADDRESS,
        "ansible_ssh_private_key_file": fleet.state.key,
        "ansible_ssh_common_args": no_pins,
    }
    with hosts.open("a") as file:
        file.write("[all:vars]\n" + "".join(f"{name}='{value}'\n" for name, value in variables.items()))
    ansible = Path(sys.executable).with_name("ansible")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "ANSIBLE_LOCALHOST_WARNING": "0"}
    ran = subprocess.run(
        [ansible, "-i", hosts, "all", "-m", "ping"],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count('"ping": "pong"') == 3


def test_openssh_runs_a_command(fleet: Fleet) -> None:
    ssh = shutil.which("ssh")
    assert ssh
    options = [
        "-F",
        "none",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "BatchMode=yes",
    ]
    address = ["-i", str(fleet.state.key), "-p", str(fleet.ports["demo-2"]), f"{login()}@{ADDRESS}"]
    ran = subprocess.run(
        [ssh, *options, *address, "echo hi; exit 3"], check=False, capture_output=True, text=True, timeout=30
    )
    assert (ran.stdout, ran.returncode) == ("hi\n", 3)


def test_nodes_that_run_are_kept_and_a_dead_one_comes_back_at_its_port(fleet: Fleet) -> None:
    before = {node.name: fleet.state.started(node.name) for node in FLEET}
    victim = before["demo-2"]
    assert victim
    assert stop([victim]) == set()
    assert start_nodes(fleet.state, dict(fleet.ports)) == fleet.ports
    after = {node.name: fleet.state.started(node.name) for node in FLEET}
    assert [name for name in before if before[name] != after[name]] == ["demo-2"]


def test_a_node_moves_to_where_it_is_registered(tmp_path: Path) -> None:
    state = _make_state(tmp_path)
    try:
        ports = start_nodes(state, {})
        wanted = _free_port()
        assert start_nodes(state, {**ports, "demo-3": wanted}) == {**ports, "demo-3": wanted}
    finally:
        _stop(state)


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    state = _make_state(tmp_path)
    try:
        with socket.create_server((ADDRESS, 0)) as other:
            port = other.getsockname()[1]
            with pytest.raises(DemoError, match=f"demo-1: taken by other programs: port {port} "):
                start_nodes(state, {"demo-1": port})
    finally:
        _stop(state)


@pytest.mark.parametrize("record", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1, "started": "other/1", "port": 1}'])
def test_a_broken_record_is_as_none(tmp_path: Path, record: str) -> None:
    state = _make_state(tmp_path)
    (tmp_path / "run" / "demo-1.json").write_text(record)
    try:
        assert start_nodes(state, {})["demo-1"] in PORTS
    finally:
        _stop(state)


async def _through(fleet: Fleet, port: int, path: str) -> bytes:
    async with fleet.connected(port=port) as connection:
        reader, writer = await connection.open_unix_connection(path)
        writer.write(b"?")
        said: bytes = await reader.readexactly(1)
        return said


def test_the_engine_is_reached_on_one_node_and_no_other_socket_is(fleet: Fleet, tmp_path: Path) -> None:
    engine = tmp_path / "engine.sock"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"!")
        writer.close()

    async def try_it() -> None:
        async with await asyncio.start_unix_server(answer, engine):
            with pytest.raises(asyncssh.ChannelOpenError):
                await _through(fleet, fleet.ports["demo-1"], ENGINE_SOCKET)
            fleet.state.note_engine(str(engine))
            assert await _through(fleet, fleet.ports["demo-1"], ENGINE_SOCKET) == b"!"
            for node, path in (("demo-2", ENGINE_SOCKET), ("demo-1", str(engine))):
                with pytest.raises(asyncssh.ChannelOpenError):
                    await _through(fleet, fleet.ports[node], path)

    try:
        asyncio.run(try_it())
    finally:
        fleet.state.note_engine(None)
