"""Playbooks through ansible-runner, on real sshd."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from evc.errors import CredentialsError, InputError, PlaybookFailed, Stopped
from evc.fleet.nodes import Node
from evc.fleet.playbooks import Report, Status
from evc.hooks.playbook_run import PREFIX, Job, PlaybookRun, check_playbook
from evc.ssh.credentials import Credentials, load_credentials
from tests.servers.sshd import SshServer, running_sshd

LOG = logging.getLogger("tests.hooks.playbook_run")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with running_sshd(tmp_path_factory.mktemp("sshd"), address="0.0.0.0") as server:
        yield server


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the private folders are made in this test, and nobody else's."""
    with tempfile.TemporaryDirectory(prefix="evct") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield Path(folder)
        monkeypatch.setattr(tempfile, "tempdir", None)


def playbook(folder: Path, *tasks: dict[str, Any], **play: Any) -> Path:
    path = folder / "play.yaml"
    path.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": list(tasks), **play}]))
    return path


def inline(server: SshServer) -> Credentials:
    return load_credentials("evc_nodes", login=server.user, private_key=server.key_file.read_text())


def run(path: Path, *nodes: Node, credentials: Callable[[str], Credentials], **more: Any) -> Report:
    more.setdefault("registered", {node.name: node for node in nodes})
    return PlaybookRun(Job(path, nodes, **more), credentials, LOG, connect_timeout_s=3).run()


def shell(words: str, name: str = "task", **more: Any) -> dict[str, Any]:
    return {"name": name, "ansible.builtin.shell": words, **more}


def pinned(server: SshServer, name: str = "edge-1", **more: object) -> Node:
    return server.node(name, host_key=server.host_key, **more)


def test_hosts_are_results_and_lines(
    server: SshServer, temporary: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = playbook(
        tmp_path,
        shell("echo hello", "greet"),
        shell("echo nope >&2; exit 3", "refuse", when="inventory_hostname == 'edge-2'"),
        shell("echo {{ word }}; exit 4", "hide", no_log=True, when="inventory_hostname == 'edge-3'"),
        {"name": "say", "ansible.builtin.debug": {"msg": "{{ word }} {{ braces }}"}},
    )
    report = run(
        path,
        pinned(server),
        pinned(server, "edge-2", host="127.0.0.2", jump_node="edge-1"),
        pinned(server, "edge-3", host="127.0.0.3"),
        pinned(server, "gone", host="127.0.0.4", port=9),
        replace(pinned(server, "other", host="127.0.0.5"), host_key=_other_key()),
        pinned(server, "lost", host="127.0.0.6", jump_node="nowhere"),
        credentials=lambda _: inline(server),
        variables={"braces": "{{ 7 * 7 }} {% x"},
        secrets={"word": "s3cr{{et"},
    )
    assert {name: str(result.status) for name, result in report.results.items()} == {
        "edge-1": "ok",
        "edge-2": "failed",
        "edge-3": "failed",
        "gone": "unreachable",
        "other": "unreachable",
        "lost": "unreachable",
    }
    assert str(report.results["edge-2"]) == "edge-2: FAILED: refuse: nope (exit status 3)"
    assert str(report.results["edge-3"]) == "edge-3: FAILED: hide: hidden by no_log"
    assert "Connection refused" in str(report.results["gone"])
    assert report.results["other"].message == "its host key is not the one that is pinned"
    assert '"nowhere" is not a registered node' in str(report.results["lost"])
    lines = caplog.messages
    assert "edge-1: changed: greet" in lines
    assert "edge-1: ok: say: *** {{ 7 * 7 }} {% x" in lines
    assert not [line for line in lines if "s3cr" in line]
    assert list(temporary.iterdir()) == []


def _other_key() -> str:
    return " ".join(asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().split()[:2])


@pytest.mark.parametrize("way", ["key_file", "key_file_with_passphrase", "inline_with_passphrase"])
def test_every_kind_of_key_works_through_jump_nodes_too(
    server: SshServer, temporary: Path, tmp_path: Path, way: str
) -> None:
    key = asyncssh.read_private_key(server.key_file)
    text = key.export_private_key("openssh", "a phrase").decode()
    encrypted = tmp_path / "encrypted"
    encrypted.write_text(text)
    given: dict[str, dict[str, Any]] = {
        "key_file": {"key_file": str(server.key_file)},
        "key_file_with_passphrase": {"key_file": str(encrypted), "passphrase": "a phrase"},
        "inline_with_passphrase": {"private_key": text, "passphrase": "a phrase"},
    }
    credentials = load_credentials("evc_nodes", login=server.user, **given[way])
    gate = pinned(server, "gate")
    behind = pinned(server, "edge-1", host="127.0.0.2", jump_node="gate")
    report = run(
        playbook(tmp_path, shell("true")), behind, credentials=lambda _: credentials, registered={"gate": gate}
    )
    assert report.results["edge-1"].status is Status.OK


class _PasswordServer(asyncssh.SSHServer):
    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == ("edge", "it's a 100% \\ pass\"word")

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        return True


async def _shell(process: asyncssh.SSHServerProcess[bytes]) -> None:
    command = process.command or "true"
    run = await asyncio.create_subprocess_exec("/bin/sh", "-c", command, stdin=-1, stdout=-1, stderr=-1)
    assert run.stdin
    assert run.stdout
    assert run.stderr

    async def feed(to: asyncio.StreamWriter) -> None:
        while said := await process.stdin.read(65536):
            to.write(said)
        to.close()

    feeding = asyncio.ensure_future(feed(run.stdin))
    stdout, stderr = await asyncio.gather(run.stdout.read(), run.stderr.read())
    await run.wait()
    feeding.cancel()
    process.stdout.write(stdout)
    process.stderr.write(stderr)
    process.exit(run.returncode or 0)


@pytest.fixture
def password_server() -> Iterator[tuple[int, str]]:
    """Yield port and host key of a server that takes a password only."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    loop = asyncio.new_event_loop()

    async def listen() -> int:
        options: dict[str, Any] = {"server_factory": _PasswordServer, "process_factory": _shell, "encoding": None}
        return int((await asyncssh.listen("127.0.0.1", 0, server_host_keys=[key], **options)).get_port())

    port = loop.run_until_complete(listen())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield port, " ".join(key.export_public_key().decode().split()[:2])
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


@pytest.mark.parametrize("password", ["it's a 100% \\ pass\"word", "wrong one"])
def test_a_password_works_through_jump_nodes_too(
    password_server: tuple[int, str], temporary: Path, tmp_path: Path, password: str, caplog: pytest.LogCaptureFixture
) -> None:
    port, host_key = password_server
    credentials = load_credentials("evc_nodes", login="edge", password=password)
    gate = Node("gate", "127.0.0.1", port, host_key=host_key)
    behind = replace(gate, name="edge-1", jump_node="gate")
    path = playbook(tmp_path, shell("true"))
    report = run(path, gate, behind, credentials=lambda _: credentials)
    expected = [Status.UNREACHABLE] * 2 if password.startswith("wrong") else [Status.OK] * 2
    assert [result.status for result in report.results.values()] == expected, report
    assert password not in caplog.text
    assert password not in str(report)


def test_a_login_that_cannot_be_used_is_a_result(server: SshServer, temporary: Path, tmp_path: Path) -> None:
    def credentials(conn_id: str) -> Credentials:
        if conn_id == "broken":
            raise CredentialsError("connection broken: not defined")
        return inline(server)

    report = run(
        playbook(tmp_path, shell("true")),
        pinned(server),
        pinned(server, "edge-2", conn_id="broken"),
        credentials=credentials,
    )
    assert report.results["edge-1"].status is Status.OK
    assert str(report.results["edge-2"]) == "edge-2: unreachable: connection broken: not defined"


def test_connections_with_similar_names_are_kept_apart(server: SshServer, temporary: Path, tmp_path: Path) -> None:
    names = ("evc_nodes_factory_a", "evc_nodes_factory_b", "site.a", "site_a")
    nodes = [pinned(server, f"edge-{n}", host=f"127.0.0.{n}", conn_id=name) for n, name in enumerate(names, 1)]
    report = run(playbook(tmp_path, shell("true")), *nodes, credentials=lambda _: inline(server))
    assert [result.status for result in report.results.values()] == [Status.OK] * 4


def test_nothing_of_the_user_has_a_say(
    server: SshServer, temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ansible.cfg").write_text(
        "[defaults]\nforks = nonsense\n[ssh_connection]\nssh_executable = /bin/false\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANSIBLE_CONFIG", str(tmp_path / "ansible.cfg"))
    monkeypatch.setenv("ANSIBLE_SSH_EXECUTABLE", "/bin/false")
    monkeypatch.setenv("AIRFLOW_CONN_EVC_NODES", "secret-of-airflow")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/nowhere")
    local = {"name": "environment", "delegate_to": "localhost", "vars": {"ansible_connection": "local"}}
    seen = tmp_path / "seen"
    path = playbook(
        tmp_path,
        shell("true"),
        {**local, "ansible.builtin.shell": f"cat /proc/$PPID/environ; env; ps -eo args e > {seen}.ps; env > {seen}"},
    )
    report = run(path, pinned(server), credentials=lambda _: inline(server), secrets={"word": "secret-of-playbook"})
    assert report.results["edge-1"].status is Status.OK, report
    environment = seen.read_text()
    assert "secret-of" not in environment
    assert "SSH_AUTH_SOCK" not in environment
    arguments = [line for line in Path(f"{seen}.ps").read_text().splitlines() if PREFIX in line]
    assert arguments
    assert not [line for line in arguments if "secret-of-playbook" in line]


def test_files_are_closed_to_others(server: SshServer, temporary: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    local: dict[str, Any] = {"delegate_to": "localhost", "vars": {"ansible_connection": "local"}}
    find = f"find {temporary} -type f -perm /077 -o -name '{PREFIX}*' -perm /077 > {seen}"
    report = run(
        playbook(tmp_path, shell(find, **local)),
        pinned(server),
        credentials=lambda _: load_credentials(
            "evc_nodes",
            login=server.user,
            private_key=server.key_file.read_text(),
            password="pw",  # noqa: S106
        ),
        secrets={"word": "secret"},
        host_secrets={"edge-1": {"mine": "secret too"}},
    )
    assert report.results["edge-1"].status is Status.OK, report
    assert seen.read_text() == ""
    assert list(temporary.iterdir()) == []


def test_variables_of_one_host_reach_only_that_one(server: SshServer, temporary: Path, tmp_path: Path) -> None:
    path = playbook(tmp_path, shell("test {{ mine | default('none') }} = {{ inventory_hostname }}"))
    report = run(
        path,
        pinned(server),
        pinned(server, "edge-2", host="127.0.0.2"),
        credentials=lambda _: inline(server),
        host_secrets={"edge-1": {"mine": "edge-1"}},
    )
    assert [str(result.status) for result in report.results.values()] == ["ok", "failed"]


def test_ansible_s_own_failure_is_one_line(server: SshServer, temporary: Path, tmp_path: Path) -> None:
    path = playbook(tmp_path, {"name": "x", "no.such.module": {}})
    with pytest.raises(PlaybookFailed, match=r"^play: Ansible: couldn't resolve module/action 'no\.such\.module'"):
        run(path, pinned(server), credentials=lambda _: inline(server))
    assert list(temporary.iterdir()) == []


def test_a_name_that_is_no_playbook_is_refused(tmp_path: Path) -> None:
    path = playbook(tmp_path, shell("true"))
    assert check_playbook(tmp_path, "play") == check_playbook(tmp_path, "play.yaml") == path
    for name in ("nothing", "../play", "/etc/passwd", ""):
        with pytest.raises(InputError, match="is not one; allowed: play"):
            check_playbook(tmp_path, name)


# -- its end -----------------------------------------------------------------------------------------------------------


def processes(text: str) -> list[str]:
    """Return the command lines of this machine that hold ``text``."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found


def wait_until(condition: Callable[[], Any], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_stop_leaves_no_process_and_no_file(server: SshServer, temporary: Path, tmp_path: Path) -> None:
    started = tmp_path / "started"
    path = playbook(tmp_path, shell(f"touch {started}; sleep 300"))
    job = Job(path, [pinned(server)], {})
    one = PlaybookRun(job, lambda _: inline(server), LOG)
    raised: list[Exception] = []

    def body() -> None:
        try:
            one.run()
        except Exception as error:  # noqa: BLE001  looked at below
            raised.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    wait_until(started.exists)
    assert processes(str(temporary))
    before = time.monotonic()
    one.stop()
    thread.join(10)
    assert time.monotonic() - before < 3
    assert [type(error) for error in raised] == [Stopped]
    assert processes(str(temporary)) == []
    assert list(temporary.iterdir()) == []


def test_what_is_not_over_in_time_is_stopped(server: SshServer, temporary: Path, tmp_path: Path) -> None:
    with pytest.raises(PlaybookFailed, match="^play: not over within 3 s; stopped$"):
        run(playbook(tmp_path, shell("sleep 300")), pinned(server), credentials=lambda _: inline(server), timeout_s=3)
    assert processes(str(temporary)) == []
    assert list(temporary.iterdir()) == []


def test_a_host_that_hangs_does_not_use_up_the_time_of_the_others(
    server: SshServer, temporary: Path, tmp_path: Path
) -> None:
    path = playbook(tmp_path, shell("sleep 300", "hang", when="inventory_hostname == 'edge-1'"), shell("true"))
    report = run(
        path,
        pinned(server),
        pinned(server, "edge-2", host="127.0.0.2"),
        credentials=lambda _: inline(server),
        timeout_s=60,
    )
    assert report.results["edge-2"].status is Status.OK
    assert report.results["edge-1"].status is Status.FAILED
    assert report.results["edge-1"].task == "hang"
    assert "timed out after 15 second" in str(report.results["edge-1"]).lower()
    assert processes(str(temporary)) == []


def test_after_a_sigkill_of_the_task_nothing_goes_on_and_no_secret_stays(
    server: SshServer, temporary: Path, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    path = playbook(tmp_path, shell(f"touch {started}; sleep 300"))
    program = f"""
import logging
from pathlib import Path
from evc.fleet.nodes import Node
from evc.hooks.playbook_run import Job, PlaybookRun
from evc.ssh.credentials import load_credentials
credentials = load_credentials("evc_nodes", login={server.user!r}, key_file={str(server.key_file)!r})
node = Node("edge-1", "127.0.0.1", {server.port}, host_key={server.host_key!r})
PlaybookRun(Job(Path({str(path)!r}), [node], {{}}), lambda _: credentials, logging.getLogger()).run()
"""
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        wait_until(started.exists)
        os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: not processes(str(temporary)), 5)
    wait_until(lambda: not list(temporary.iterdir()), 5)


def test_what_a_killed_process_left_behind_goes_with_the_next_run(
    server: SshServer, temporary: Path, tmp_path: Path
) -> None:
    left = temporary / f"{PREFIX}left"
    left.mkdir(mode=0o700)
    (left / "key").write_text("secret")
    os.utime(left, (1, 1))
    run(playbook(tmp_path, shell("true")), pinned(server), credentials=lambda _: inline(server))
    assert list(temporary.iterdir()) == []
