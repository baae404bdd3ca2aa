"""``evc registry`` on a shell."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from evc import cli
from evc.registry.folder import RegistryFolder
from tests.servers.registry_faces import RegistryServer
from tests.servers.sshd import free_port


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(cli.REGISTRY_VARIABLE, raising=False)
    monkeypatch.delenv(cli.STATE_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)


def output(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert cli.main(["registry", *argv]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def rows(capsys: pytest.CaptureFixture[str], *argv: str) -> list[dict[str, Any]]:
    found = json.loads(output(capsys, *argv, "--json"))
    assert isinstance(found, list)
    return found


def test_init_says_what_it_made_and_where_to_go_next(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = output(capsys, "init", "--folder", "my registry", "--name", "127.0.0.1")
    folder = RegistryFolder(tmp_path / "my registry")
    connection = folder.connection()
    assert connection
    assert connection["password"] not in text
    assert connection["extra"]["ca_path"] == str(folder.ca_file), "absolute, wherever Airflow runs"
    commands = [line.strip() for line in text.partition("next (docs/registry.md):\n")[2].splitlines()]
    assert [command.split()[-1] for command in commands[:2]] == ["read-write.yml", "pull-only.yml"]
    shown = subprocess.run(
        ["sh", "-c", f"{'; '.join(commands[2:])}; printenv AIRFLOW_CONN_EVC_REGISTRY AIRFLOW__EVC__REGISTRY_FOLDER"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    value, _, registry_folder = shown.strip().rpartition("\n")
    assert json.loads(value) == connection
    assert registry_folder == str(folder.path)


def test_what_init_made_runs_by_the_commands_it_says(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    ports = ["--port", str(free_port()), "--pull-port", str(free_port())]
    text = output(capsys, "init", "--name", "127.0.0.1", *ports)
    assert f"cd {shlex.quote('.evc/registry')} && docker-registry serve read-write.yml" in text
    server = RegistryServer(RegistryFolder(tmp_path / ".evc" / "registry"))
    server.start()
    try:
        digest = server.push("reid", "1")
        password = output(capsys, "grant", "laptop").strip()
        with server.pull_client("laptop", password) as client:
            assert client.resolve("reid", "1") == digest
        assert rows(capsys, "accounts") == [
            {"login": "evc", "face": "read-write"},
            {"login": "laptop", "face": "pull-only"},
        ]
        # also while it runs, a second run leaves all as it is
        assert "nothing changed" in output(capsys, "init")
        with server.client() as client:
            client.check()
    finally:
        server.stop()


def test_init_again_in_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (first,) = rows(capsys, "init", "--name", "a.example", "--name", "10.0.0.5", "--pull-address", "10.0.0.5:443")
    assert first["names"] == ["a.example", "10.0.0.5"]
    assert (first["address"], first["pull_address"]) == ("a.example:5000", "10.0.0.5:443")
    assert first["folder"] == str(tmp_path / ".evc" / "registry")
    assert (len(first["done"]), first["restart"]) == (8, False)
    (second,) = rows(capsys, "init")
    assert second == {**first, "done": []}
    (third,) = rows(capsys, "init", "--renew")
    assert (len(third["done"]), third["restart"]) == (1, True)
    assert "start both faces again" in output(capsys, "init", "--renew")


def test_the_folder_is_the_settings_where_none_is_given(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cli.STATE_VARIABLE, str(tmp_path / "state"))
    assert rows(capsys, "init", "--name", "a.example")[0]["folder"] == str(tmp_path / "state" / "registry")
    monkeypatch.setenv(cli.REGISTRY_VARIABLE, str(tmp_path / "set"))
    assert rows(capsys, "init", "--name", "a.example")[0]["folder"] == str(tmp_path / "set")
    assert rows(capsys, "init", "--name", "a", "--folder", "given")[0]["folder"] == str(tmp_path / "given")


def test_accounts_are_granted_and_revoked_on_the_face_that_is_meant(capsys: pytest.CaptureFixture[str]) -> None:
    output(capsys, "init", "--name", "a.example")
    password = output(capsys, "grant", "ci", "--read-write").strip()
    folder = RegistryFolder(Path(".evc/registry"))
    assert folder.read_write.accounts.knows("ci", password)
    (row,) = rows(capsys, "grant", "node-1")
    assert (row["login"], row["face"]) == ("node-1", "pull-only")
    assert folder.pull_only.accounts.knows("node-1", row["password"])
    assert output(capsys, "revoke", "ci") == "ci: had no account on the pull-only face\n"
    assert output(capsys, "revoke", "ci", "--read-write") == "ci: revoked on the read-write face\n"
    assert rows(capsys, "revoke", "node-1") == [{"login": "node-1", "face": "pull-only", "revoked": True}]
    lines = output(capsys, "accounts").splitlines()
    assert [line.split() for line in lines] == [["LOGIN", "FACE"], ["evc", "read-write"]]


@pytest.mark.parametrize(
    ("argv", "wrong"),
    [
        (["init"], "evc: --name: none is given; allowed: at least one"),
        (["init", "--name", "https://a"], 'evc: --name: "https://a" does not fit'),
        (["init", "--name", "a", "--port", "7", "--pull-port", "7"], "evc: --port and --pull-port: both are 7"),
        (["grant", "a:b"], 'evc: login: "a:b" does not fit'),
        (["grant", "node-1"], "evc: registry folder: "),
        (["revoke", "node-1"], "evc: registry folder: "),
        (["accounts"], "evc: registry folder: "),
    ],
)
def test_what_is_wrong_is_one_line(argv: list[str], wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["registry", *argv]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(wrong)
    assert captured.err.count("\n") == 1
    assert not Path(".evc").exists()


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "5000 ", "٣"])
def test_a_port_that_is_none_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--port", "--pull-port"):
        with pytest.raises(SystemExit) as caught:
            cli.main(["registry", "init", "--name", "a", f"{option}={port}"])
        assert caught.value.code == 2
        assert "is not a whole number from 1 to 65535" in capsys.readouterr().err


def test_the_help_says_what_each_command_does(capsys: pytest.CaptureFixture[str]) -> None:
    for argv, words in (
        (["--help"], ["init", "accounts", "grant", "revoke", "docs/registry.md"]),
        (["init", "--help"], ["--name HOST", "--pull-address", "never replaced", "30 days"]),
        (["grant", "--help"], ["LOGIN", "--read-write", "without a restart"]),
    ):
        with pytest.raises(SystemExit) as caught:
            cli.main(["registry", *argv])
        assert caught.value.code == 0
        text = " ".join(capsys.readouterr().out.split())
        assert all(word in text for word in words), text
