"""``hosts.ini`` on disk: whole, of EVC alone, and never older than the nodes."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import asyncssh
import pytest

from evc.errors import InputError
from evc.fleet.nodes import Node
from evc.hooks.inventory import known_hosts_file, read_inventory, write_inventory
from evc.ssh.credentials import Credentials

CAM = Node(
    "cam",
    "192.0.2.7",
    host_key=" ".join(asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().split()[:2]),
)


def no_credentials(_: Iterable[str]) -> Mapping[str, Credentials]:
    return {}


def test_both_files_are_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "hosts.ini"
    assert write_inventory(path, lambda: [CAM], no_credentials) == 1
    assert read_inventory(path).nodes == [CAM]
    assert known_hosts_file(path).read_text().splitlines()[1:] == [f"cam {CAM.host_key}"]
    for file in (path, known_hosts_file(path)):
        assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert write_inventory(path, list, no_credentials) == 0
    assert "cam" not in path.read_text() + known_hosts_file(path).read_text()
    assert sorted(file.name for file in tmp_path.iterdir()) == [".hosts.ini.lock", "hosts.ini", "hosts.ini.known_hosts"]


def test_a_password_and_a_key_are_not_written(tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    credentials = Credentials("evc_nodes", "pi", (key,), "hunter2", "~/key")
    write_inventory(
        tmp_path / "hosts.ini", lambda: [CAM], lambda ids: {"evc_nodes": credentials} if "evc_nodes" in ids else {}
    )
    text = (tmp_path / "hosts.ini").read_text()
    assert "hunter2" not in text
    assert f"ansible_ssh_private_key_file={Path.home()}/key" in text
    assert "ansible_user=pi" in text


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "hosts.ini"
    write_inventory(path, lambda: [CAM], no_credentials)
    before = path.read_bytes()
    unspeakable = Credentials("evc_nodes", "pi", key_file="/a/${HOME}/key")
    with pytest.raises(InputError, match="cannot be given to ssh"):
        write_inventory(path, lambda: [CAM], lambda _: {"evc_nodes": unspeakable})
    assert path.read_bytes() == before


def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "hosts.ini"
    write_inventory(path, lambda: [CAM], no_credentials)
    code = (
        "import resource, signal, sys\nfrom pathlib import Path\nfrom evc.fleet.nodes import Node\n"
        "from evc.hooks.inventory import write_inventory\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))\n"
        "write_inventory(Path(sys.argv[1]), lambda: [Node(f'n{i}', 'h') for i in range(99)], lambda _: {})\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert "InputError: hosts_ini" in done.stderr
    assert "File too large" in done.stderr
    assert read_inventory(path).nodes == [CAM]
    assert sorted(file.name for file in tmp_path.iterdir()) == [".hosts.ini.lock", "hosts.ini", "hosts.ini.known_hosts"]


def test_paths_that_cannot_hold_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe")
    for path, expected in {
        tmp_path: "is a folder",
        tmp_path / "gone" / "hosts.ini": "folder does not exist",
        tmp_path / "pipe": "is not a regular file",
    }.items():
        with pytest.raises(InputError, match=expected):
            write_inventory(path, lambda: [CAM], no_credentials)


def test_a_file_of_someone_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("[web]\nmine\n")
    with pytest.raises(InputError, match="was not written by EVC"):
        write_inventory(path, lambda: [CAM], no_credentials)
    assert path.read_text() == "[web]\nmine\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "hosts.ini"
    link.symlink_to(tmp_path / "real" / "hosts.ini")
    write_inventory(link, lambda: [CAM], no_credentials)
    assert link.is_symlink()
    assert read_inventory(link).nodes == [CAM]


UNWRITABLE = """
import os, sys
from pathlib import Path
from evc.hooks.inventory import write_inventory
if os.geteuid() == 0:
    os.setuid(65534)
write_inventory(Path(sys.argv[1]), list, lambda _: {})
"""


def test_unwritable_folder(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o555)
    for parent in folder.parents if os.geteuid() == 0 else ():
        parent.chmod(parent.stat().st_mode | stat.S_IXOTH | stat.S_IXGRP)
    argv = [sys.executable, "-c", UNWRITABLE, str(folder / "hosts.ini")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert "InputError: hosts_ini" in done.stderr
    assert "cannot be used: Permission denied" in done.stderr


def test_a_lock_that_is_never_free_is_an_error(tmp_path: Path) -> None:
    with (tmp_path / ".hosts.ini.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process holds it"):
            write_inventory(tmp_path / "hosts.ini", list, no_credentials, lock_timeout_s=0.1)


# a writer: adds its node to a table of nodes (a folder), then writes the inventory, as register_node does
WRITER = """
import json, sys, time
from pathlib import Path
from evc.fleet.nodes import Node
from evc.hooks.inventory import write_inventory
path, table, first = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

def read_nodes():
    nodes = [Node(row.name, "192.0.2.1", int(row.name[1:])) for row in sorted(table.iterdir())]
    time.sleep(0.002)  # a slow read must not let an older list win
    return nodes

for number in range(first, first + 25):
    (table / f"n{number}").touch()
    write_inventory(path, read_nodes, lambda _: {})
"""


def test_of_two_writers_none_loses_a_node(tmp_path: Path) -> None:
    path, table = tmp_path / "hosts.ini", tmp_path / "table"
    table.mkdir()
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(table), str(first)]) for first in (100, 200, 300)
    ]
    whole = 0
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            assert path.read_text().endswith("ansible_host_key_checking=True\n")  # its last line: never half a file
            whole += 1
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert whole > 0
    assert len(read_inventory(path).nodes) == 75


def test_module_needs_no_airflow() -> None:
    code = (
        "import sys, json, evc.hooks.inventory; print(json.dumps([m for m in sys.modules if m.startswith('airflow')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
