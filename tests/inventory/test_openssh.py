"""Arguments for OpenSSH; that they lead to a node is tested in test_ping."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evc.errors import InputError
from evc.fleet import openssh
from evc.fleet.inventory import render
from evc.fleet.nodes import Node
from evc.fleet.openssh import Login

names = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,6}[A-Za-z0-9])?", fullmatch=True)


@given(names, names)
def test_no_two_names_share_an_alias_where_case_is_folded(one: str, other: str) -> None:
    same = openssh.host_key_alias(one).lower() == openssh.host_key_alias(other).lower()
    assert same == (one == other)


def test_known_hosts_is_what_ssh_keygen_finds(tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    key = " ".join((tmp_path / "key.pub").read_text().split()[:2])
    nodes = [Node("Cam-1", "192.0.2.7", host_key=key), Node("new", "192.0.2.8")]
    (tmp_path / "known").write_text(openssh.known_hosts(nodes))
    argv = ["ssh-keygen", "-f", str(tmp_path / "known"), "-F", openssh.host_key_alias("Cam-1")]
    assert key in subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    assert "new" not in (tmp_path / "known").read_text()


@pytest.mark.parametrize("path", ["/a/${HOME}/k", "/a/\nk", "/a/\x00"])
def test_a_path_that_ssh_would_change_is_refused(path: str) -> None:
    with pytest.raises(InputError, match="cannot be given to ssh"):
        openssh.path_value(path)


@pytest.mark.parametrize(
    "path",
    [
        "/plain/key",
        "/a key",
        "/100%d",
        '/"quoted"',
        "/it's",
        "/back\\slash",
        "/back\\\\two",
        "/end\\",
        "/$HOME",
        "/한글",
    ],
)
def test_ssh_reads_the_path_that_is_meant(path: str) -> None:
    argv = ["ssh", "-F", "/dev/null", "-G", "-o", f'UserKnownHostsFile="{openssh.path_value(path)}"', "host"]
    shown = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    assert f"userknownhostsfile {path}\n" in shown


def test_a_chain_of_too_many_jump_nodes_is_left_out() -> None:
    numbers = range(1, openssh.MAX_JUMPS + 2)
    chain = [Node("n0", "192.0.2.1"), *(Node(f"n{n}", f"10.0.0.{n}", jump_node=f"n{n - 1}") for n in numbers)]
    text = render(chain, {"evc_nodes": Login("pi", "/k")}, "/known")
    comments = [line for line in text.splitlines() if line.startswith("# left out")]
    assert comments == [f"# left out: n{openssh.MAX_JUMPS + 1}: jump_node: 7 nodes on the way; allowed: at most 6"]
    assert max(map(len, text.splitlines())) < 100_000  # Linux takes 131,072 bytes in one argument


Run = Callable[[str], list[str]]


@pytest.fixture
def run_by_ssh(tmp_path: Path) -> Run:
    """Give ssh a ``ProxyCommand``; returns what ssh and its shell make of it, by an ``ssh`` that only notes how it was
    called."""
    real = shutil.which("ssh")
    assert real
    noted, note = tmp_path / "noted", tmp_path / "bin" / "ssh"
    note.parent.mkdir()
    note.write_text('#!/bin/sh\nprintf "%s\\0" "$@" >"$NOTED"\n')
    note.chmod(0o755)
    path = f"{note.parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SHELL": "/bin/sh", "NOTED": str(noted)}

    def run(value: str) -> list[str]:
        noted.unlink(missing_ok=True)
        argv = [real, "-F", "/dev/null", "-p", "2022", "-o", f"ProxyCommand={value}", "192.0.2.9"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False, env=environment)
        assert noted.exists(), done.stderr
        return noted.read_text().split("\0")[:-1]

    return run


def test_the_zone_of_a_jump_node_s_ipv6_address_is_no_token_of_ssh(run_by_ssh: Run) -> None:
    first, second = Node("first", "fe80::2%wlan0"), Node("second", "fe80::1%eth0")
    value = openssh.proxy_command([first, second], {}, "/known")
    assert value
    called = run_by_ssh(value)
    assert called[-4:] == ["-W", "[192.0.2.9]:2022", "--", "fe80::1%eth0"]
    (inner,) = (argument.removeprefix("ProxyCommand=") for argument in called if argument.startswith("ProxyCommand="))
    assert run_by_ssh(inner)[-4:] == ["-W", "[192.0.2.9]:2022", "--", "fe80::2%wlan0"]
