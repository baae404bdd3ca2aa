"""Accounts in htpasswd files, with several writers and a reader at the same time."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Executor
from pathlib import Path

import pytest

from evc.errors import InputError
from evc.registry.accounts import Accounts, node_login
from tests.servers.limits import not_root


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    made = Accounts(tmp_path / "pull-only.htpasswd")
    made.path.touch(0o600)
    return made


def test_granted_replaced_revoked(accounts: Accounts) -> None:
    first = accounts.grant("node-1")
    other = accounts.grant("node-2")
    assert accounts.logins() == ["node-1", "node-2"]
    second = accounts.grant("node-1")
    assert sorted(accounts.logins()) == ["node-1", "node-2"]
    assert not accounts.knows("node-1", first)
    assert accounts.knows("node-1", second)
    assert accounts.knows("node-2", other)
    assert not accounts.knows("node-3", other)
    assert accounts.revoke("node-1") is True
    assert accounts.revoke("node-1") is False
    assert accounts.logins() == ["node-2"]
    assert node_login(17) == "node-17"


def test_passwords_are_long_random_and_kept_as_bcrypt_only(accounts: Accounts) -> None:
    passwords = {accounts.grant("node-1") for _ in range(20)}
    assert len(passwords) == 20
    assert all(len(password) >= 32 and password.isascii() for password in passwords)
    text = accounts.path.read_text()
    assert text.startswith("node-1:$2b$")
    assert not any(password in text for password in passwords)


def test_what_an_administrator_wrote_stays(accounts: Accounts) -> None:
    accounts.path.write_bytes(b"# by hand \xff\nguest:$2y$05$abc\n")
    accounts.grant("node-1")
    accounts.revoke("node-1")
    assert accounts.path.read_bytes() == b"# by hand \xff\nguest:$2y$05$abc\n"
    assert not accounts.knows("guest", "x")


def test_mode_and_group_stay_as_the_registry_needs_them(accounts: Accounts) -> None:
    accounts.path.chmod(0o640)
    group = 12345 if os.geteuid() == 0 else accounts.path.stat().st_gid
    os.chown(accounts.path, -1, group)
    accounts.grant("node-1")
    found = accounts.path.stat()
    assert (found.st_mode & 0o777, found.st_gid, found.st_uid) == (0o640, group, os.geteuid())


def test_each_change_has_a_time_of_its_own(accounts: Accounts) -> None:
    times = []
    for _ in range(50):
        accounts.grant("node-1")
        times.append(accounts.path.stat().st_mtime_ns)
    assert times == sorted(set(times))


@pytest.mark.parametrize("login", ["", "a:b", "a\nb", "-a", "A", "a" * 64, "노드", "a b"])
def test_what_is_no_login_is_refused(accounts: Accounts, login: str) -> None:
    with pytest.raises(InputError, match="login: "):
        accounts.grant(login)
    assert accounts.revoke(login) is False
    assert accounts.path.read_text() == ""


def grant_and_revoke(path: Path, first: int, count: int) -> int:
    """Run in a process of its own: grant so many accounts, revoke each second one."""
    accounts = Accounts(path)
    for number in range(first, first + count):
        accounts.grant(node_login(number))
        if number % 2:
            accounts.revoke(node_login(number))
    return os.getpid()


def test_writers_in_several_processes_lose_nothing_and_a_reader_sees_whole_files(
    accounts: Accounts, processes: Executor
) -> None:
    stop, halves = threading.Event(), list[bytes]()

    def read() -> None:
        while not stop.is_set():
            content = accounts.path.read_bytes()
            if content and not content.endswith(b"\n"):
                halves.append(content)
            for line in content.splitlines():
                if len(line.partition(b":")[2]) != 60:
                    halves.append(line)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        work = [processes.submit(grant_and_revoke, accounts.path, 1000 * n, 100) for n in range(3)]
        assert len({each.result() for each in work}) > 1
    finally:
        stop.set()
        reader.join()
    assert halves == []
    assert sorted(accounts.logins()) == sorted(node_login(1000 * n + k) for n in range(3) for k in range(0, 100, 2))
    left = {path.name for path in accounts.path.parent.iterdir()}
    assert left == {"pull-only.htpasswd", ".pull-only.htpasswd.lock"}


def test_a_folder_that_init_did_not_make_is_said(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path / "none" / "pull-only.htpasswd")
    for change in (accounts.grant, accounts.revoke):
        with pytest.raises(InputError, match="registry folder: .*none"):
            change("node-1")
    with pytest.raises(InputError, match="a folder in which `evc registry init` ran"):
        accounts.logins()


def test_a_file_that_may_not_be_read_or_replaced_is_said_and_stays(accounts: Accounts) -> None:
    accounts.grant("node-1")
    before = accounts.path.read_bytes()
    with not_root():
        for change in (accounts.grant, accounts.revoke):
            with pytest.raises(InputError, match="registry folder: .*Permission denied"):
                change("node-1")
    assert accounts.path.read_bytes() == before
