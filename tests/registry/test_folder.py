"""What ``evc registry init`` makes, keeps and renews."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from evc.errors import InputError
from evc.registry.folder import RegistryFolder, Wanted
from tests.servers.limits import not_root

NAMES = ["registry.example.org", "10.0.0.5"]
FILES = {
    "ca.crt": 0o644,
    "ca.key": 0o600,
    "connection.json": 0o600,
    "pull-only.htpasswd": 0o600,
    "pull-only.yml": 0o600,
    "read-write.htpasswd": 0o600,
    "read-write.yml": 0o600,
    "server.crt": 0o644,
    "server.key": 0o600,
}


@pytest.fixture
def folder(tmp_path: Path) -> RegistryFolder:
    return RegistryFolder(tmp_path / "a" / "registry")


def contents(folder: RegistryFolder) -> dict[str, bytes]:
    """Return all that it holds but locks and images."""
    return {path.name: path.read_bytes() for path in folder.path.iterdir() if path.is_file() and path.name[0] != "."}


def test_the_first_run_makes_everything_closed_to_others(folder: RegistryFolder) -> None:
    made = folder.init(Wanted(names=NAMES))
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.path.iterdir() if path.name in FILES} == FILES
    assert set(contents(folder)) == set(FILES)
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert (made.address, made.pull_address) == ("registry.example.org:5000", "registry.example.org:5001")
    assert made.certificate.names == tuple(NAMES)
    assert made.restart is False
    assert len(made.done) == 8
    connection = folder.connection()
    assert connection
    password = connection.pop("password")
    assert connection == {
        "conn_type": "docker",
        "host": "registry.example.org",
        "port": 5000,
        "login": "evc",
        "extra": {"ca_path": str(folder.ca_file), "pull_address": "registry.example.org:5001", "pull_port": 5001},
    }
    assert folder.read_write.accounts.logins() == ["evc"]
    assert folder.read_write.accounts.knows("evc", password)
    assert folder.pull_only.accounts.logins() == []
    assert password not in "".join(made.done)


def test_the_faces_differ_in_port_accounts_and_rights(folder: RegistryFolder) -> None:
    folder.init(Wanted(names=NAMES, port=443, pull_port=8443))
    configs = [yaml.safe_load(face.config_file.read_text()) for face in (folder.read_write, folder.pull_only)]
    maintenance = [config["storage"].pop("maintenance") for config in configs]
    assert [each["readonly"]["enabled"] for each in maintenance] == [False, True]
    assert [each["uploadpurging"]["enabled"] for each in maintenance] == [True, False]
    assert [config["http"].pop("addr") for config in configs] == [":443", ":8443"]
    assert configs[0]["http"].pop("secret") != configs[1]["http"].pop("secret")
    accounts = [config.pop("auth")["htpasswd"]["path"] for config in configs]
    assert accounts == ["read-write.htpasswd", "pull-only.htpasswd"]
    assert configs[0] == configs[1]
    assert configs[0]["storage"]["delete"]["enabled"] is True


def test_a_second_run_changes_nothing(folder: RegistryFolder) -> None:
    folder.init(Wanted(names=NAMES, pull_address="10.0.0.5:443"))
    folder.pull_only.accounts.grant("node-1")
    before = contents(folder)
    for again in (Wanted(), Wanted(names=NAMES, port=5000, pull_port=5001)):
        made = folder.init(again)
        assert (made.done, made.restart, made.pull_address) == ([], False, "10.0.0.5:443")
        assert contents(folder) == before


def test_other_names_make_another_certificate_and_keep_the_rest(folder: RegistryFolder) -> None:
    folder.init(Wanted(names=NAMES))
    before = contents(folder)
    made = folder.init(Wanted(names=["new.example.org", *NAMES]))
    assert made.restart is True
    assert made.certificate.names == ("new.example.org", *NAMES)
    assert made.pull_address == "new.example.org:5001"
    after = contents(folder)
    assert {name for name in FILES if after[name] != before[name]} == {"server.crt", "connection.json"}
    old, new = json.loads(before["connection.json"]), json.loads(after["connection.json"])
    assert new["host"] == "new.example.org"
    assert new["password"] == old["password"]


def test_other_ports_make_other_configurations_and_keep_the_former(folder: RegistryFolder) -> None:
    folder.init(Wanted(names=NAMES))
    folder.read_write.config_file.write_text(folder.read_write.config_file.read_text() + "# by hand\n")
    before = contents(folder)
    made = folder.init(Wanted(port=6000))
    assert (made.address, made.restart) == ("registry.example.org:6000", True)
    assert folder.read_write.port() == 6000
    after = contents(folder)
    assert after["read-write.yml.previous"] == before["read-write.yml"]
    assert after["pull-only.yml"] == before["pull-only.yml"]
    assert folder.init(Wanted(names=NAMES)).done == []
    connection = folder.connection()
    assert connection
    assert connection["port"] == 6000


def test_a_certificate_is_renewed_when_it_is_due_or_asked_for(folder: RegistryFolder) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    first = folder.init(Wanted(names=NAMES), start).certificate
    assert folder.init(Wanted(), first.expires - timedelta(days=31)).done == []
    due = first.expires - timedelta(days=29)
    before = contents(folder)
    made = folder.init(Wanted(), due)
    assert made.restart is True
    assert made.done == [
        "renewed, as it was about to expire, the server certificate for registry.example.org, 10.0.0.5"
    ]
    assert made.certificate.expires - due > timedelta(days=390)
    assert {name for name in FILES if contents(folder)[name] != before[name]} == {"server.crt"}
    assert folder.init(Wanted(renew=True), due).restart is True
    late = made.certificate.expires + timedelta(days=1)
    assert folder.init(Wanted(), late).done[0].startswith("renewed, as it had expired,")


def test_the_end_of_the_authority_is_told_in_time(folder: RegistryFolder) -> None:
    folder.init(Wanted(names=NAMES))
    authority = folder.authority.authority()
    assert authority
    made = folder.init(Wanted(), authority.expires - timedelta(days=300))
    assert any("the authority itself ends on" in line for line in made.done)
    with pytest.raises(InputError, match="the authority expired"):
        folder.init(Wanted(), authority.expires + timedelta(days=1))


def test_a_password_is_made_anew_where_it_is_asked_for_lost_or_revoked(folder: RegistryFolder) -> None:
    folder.init(Wanted(names=NAMES))
    seen = set()

    def agree() -> None:
        connection = folder.connection()
        assert connection
        assert folder.read_write.accounts.knows(connection["login"], connection["password"])
        seen.add(connection["password"])

    agree()
    changes: list[tuple[Callable[[], object], Wanted]] = [
        (lambda: None, Wanted(new_password=True)),
        (folder.connection_file.unlink, Wanted()),
        (lambda: folder.read_write.accounts.revoke("evc"), Wanted()),
        (folder.read_write.accounts.path.unlink, Wanted()),
    ]
    for change, wanted in changes:
        change()
        made = folder.init(wanted)
        assert any("made a password for the read-write account evc" in line for line in made.done)
        agree()
    assert len(seen) == 5


@pytest.mark.parametrize("lost", sorted(FILES))
def test_what_was_lost_is_made_again_but_for_the_authoritys_key(folder: RegistryFolder, lost: str) -> None:
    """The same as a run that was killed before it made that file."""
    folder.init(Wanted(names=NAMES))
    (folder.path / lost).unlink()
    if lost == "ca.key":
        with pytest.raises(InputError, match=r"ca\.key: there is none.*from a backup"):
            folder.init(Wanted(names=NAMES))
        return
    folder.init(Wanted(names=NAMES))
    assert set(contents(folder)) == set(FILES)
    assert folder.init(Wanted(names=NAMES)).done == []


class Killed(BaseException):
    """In place of SIGKILL: nobody catches it."""


@pytest.mark.parametrize("files", range(12))
@pytest.mark.parametrize("is_new", [True, False])
def test_killed_before_any_of_its_files_the_next_run_completes_it(
    folder: RegistryFolder, files: int, is_new: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_new:
        folder.init(Wanted(names=NAMES))
    wanted = Wanted(names=["new.example.org", *NAMES], port=6000, pull_port=6001, new_password=True)
    left = [files]
    replace = Path.replace

    def until(path: Path, target: Path) -> Path:
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        return replace(path, target)

    with monkeypatch.context() as patch, suppress(Killed):
        patch.setattr(Path, "replace", until)
        folder.init(wanted)
    folder.init(Wanted(names=wanted.names, port=6000, pull_port=6001))
    connection = folder.connection()
    assert connection
    assert folder.read_write.accounts.knows("evc", connection["password"])
    assert (connection["host"], connection["port"]) == ("new.example.org", 6000)
    assert connection["extra"]["pull_address"] == "new.example.org:6001"
    server = folder.authority.server()
    assert server
    assert server.names == tuple(wanted.names)
    assert (folder.read_write.port(), folder.pull_only.port()) == (6000, 6001)
    assert folder.init(Wanted()).done == []
    unfinished = [path for path in folder.path.iterdir() if path.name.endswith(".new")]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in unfinished)


def test_an_open_key_of_the_authority_is_closed(folder: RegistryFolder) -> None:
    folder.init(Wanted(names=NAMES))
    folder.authority.ca_key_file.chmod(0o644)
    assert folder.init(Wanted()).done == [f"closed {folder.authority.ca_key_file} to others"]
    assert folder.authority.ca_key_file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("wanted", "wrong"),
    [
        (Wanted(), "--name: none is given"),
        (Wanted(names=["a b"]), '--name: "a b" does not fit'),
        (Wanted(names=["::1"]), '--name: "::1" comes first'),
        (Wanted(names=NAMES, port=0), "--port: 0 is not a port"),
        (Wanted(names=NAMES, pull_port=65536), "--pull-port: 65536 is not a port"),
        (Wanted(names=NAMES, port=5001), "--port and --pull-port: both are 5001"),
        (Wanted(names=NAMES, pull_address="10.0.0.5"), "--pull-address: "),
        (Wanted(names=NAMES, pull_address="10.0.0.5:0"), "--pull-address: "),
        (Wanted(names=NAMES, pull_address="10.0.0.6:443"), '"10.0.0.6" is no name of the certificate'),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line_and_makes_nothing(
    folder: RegistryFolder, wanted: Wanted, wrong: str
) -> None:
    with pytest.raises(InputError) as caught:
        folder.init(wanted)
    assert wrong in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not folder.path.exists()


def test_a_name_that_nodes_use_is_not_dropped_unseen(folder: RegistryFolder) -> None:
    folder.init(Wanted(names=NAMES, pull_address="10.0.0.5:443"))
    before = contents(folder)
    with pytest.raises(InputError, match=r'pull_address: "10\.0\.0\.5" is no name of the certificate'):
        folder.init(Wanted(names=NAMES[:1]))
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("name", "text", "wrong"),
    [
        ("read-write.yml", "http: [", "its http.addr can't be read"),
        ("read-write.yml", "- http", "its http.addr can't be read"),
        ("connection.json", "{}", "is not a connection"),
        ("connection.json", "[", "is not a connection"),
        ("server.crt", "nothing", "is not a certificate"),
    ],
)
def test_a_file_that_can_not_be_read_is_said_and_stays(
    folder: RegistryFolder, name: str, text: str, wrong: str
) -> None:
    folder.init(Wanted(names=NAMES))
    (folder.path / name).write_text(text)
    before = contents(folder)
    with pytest.raises(InputError, match=f"{name}: {wrong}"):
        folder.init(Wanted(names=NAMES))
    assert contents(folder) == before


def test_a_folder_that_can_not_be_made_or_written_is_said(folder: RegistryFolder, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="registry folder: .*Not a directory"):
        RegistryFolder(tmp_path / "file" / "registry").init(Wanted(names=NAMES))
    folder.init(Wanted(names=NAMES))
    with not_root(), pytest.raises(InputError, match="registry folder: .*Permission denied"):
        folder.init(Wanted(renew=True))


def init(path: Path) -> str:
    """Run in a process of its own."""
    return RegistryFolder(path).init(Wanted(names=NAMES, new_password=True)).certificate.expires.isoformat()


def test_runs_at_the_same_time_agree(folder: RegistryFolder, processes: Executor) -> None:
    results = [processes.submit(init, folder.path) for _ in range(9)]
    assert len({each.result() for each in results}) == 1
    connection = folder.connection()
    assert connection
    assert folder.read_write.accounts.knows("evc", connection["password"])
    assert set(contents(folder)) == set(FILES)
