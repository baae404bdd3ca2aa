"""Inventories of others, read by the real ansible-inventory."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from evc.errors import InputError
from evc.fleet.nodes import Node
from evc.hooks.inventory import read_inventory

FARM = """\
# a farm's own inventory
gate ansible_host=192.0.2.1 ansible_user=ops
[cameras]
cam[01:03].farm.example  ansible_port=2222
old-cam ansible_ssh_host=192.0.2.9 ansible_ssh_port="22022" ansible_ssh_user=pi  # names of Ansible 1
[sensors]
soil ansible_host="2001:db8::5" site='경기도 수원시 "A" #3' rows=12 depth=1.5 wet=True serial='"007"'
[greenhouse:children]
cameras
sensors
[farm:children]
greenhouse
[cameras:vars]
fps=15
[all:vars]
ansible_python_interpreter=/usr/bin/python3
"""


def write(folder: Path, text: str | bytes, name: str = "hosts.ini") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_ranges_groups_children_vars_and_old_names(tmp_path: Path) -> None:
    imported = read_inventory(write(tmp_path, FARM))
    nodes = {node.name: node for node in imported.nodes}
    cameras = ("cameras", "farm", "greenhouse")
    assert nodes == {
        "gate": Node("gate", "192.0.2.1", user="ops"),
        **{
            f"cam0{n}.farm.example": Node(
                f"cam0{n}.farm.example", f"cam0{n}.farm.example", 2222, groups=cameras, labels={"fps": "15"}
            )
            for n in (1, 2, 3)
        },
        "old-cam": Node("old-cam", "192.0.2.9", 22022, user="pi", groups=cameras, labels={"fps": "15"}),
        "soil": Node(
            "soil",
            "2001:db8::5",
            groups=("farm", "greenhouse", "sensors"),
            labels={"site": '경기도 수원시 "A" #3', "rows": "12", "depth": "1.5", "wet": "true", "serial": "007"},
        ),
    }
    assert len(imported.problems) == 1
    assert "ansible_python_interpreter not imported" in imported.problems[0]
    assert "and 1 more" in imported.problems[0]


SECRETS = {
    "ansible_password": "hunter2",
    "ansible_ssh_pass": "hunter2",
    "ansible_become_pass": "hunter2",
    "ansible_become_password": "hunter2",
    "db_passwd": "hunter2",
    "API_KEY": "hunter2",
    "camera_url": "rtsp://admin:hunter2@192.0.2.3/1",
    "github_token": "hunter2",
    "snmp_community": "hunter2",
}


def test_secrets_are_named_and_left(tmp_path: Path) -> None:
    written = " ".join(f"{name}={value}" for name, value in SECRETS.items())
    imported = read_inventory(write(tmp_path, f"cam {written} passenger=none\n"))
    assert imported.nodes == [Node("cam", "cam", labels={"passenger": "none"})]
    assert sorted(problem.split()[0] for problem in imported.problems) == sorted(SECRETS)
    assert "hunter2" not in str(imported)


def test_vaulted_files_are_left_and_vaulted_values_named(tmp_path: Path) -> None:
    path = write(tmp_path, "[farm]\ncam site=north\n")
    (tmp_path / "group_vars").mkdir()
    variables = tmp_path / "group_vars" / "farm.yml"
    variables.write_text("area: 3\nwifi: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  31323334\n")
    imported = read_inventory(path)
    assert imported.nodes == [Node("cam", "cam", groups=("farm",), labels={"site": "north", "area": "3"})]
    assert imported.problems == ["wifi not imported, it is encrypted by Ansible Vault: cam"]
    password = write(tmp_path, "a vault's password", "password")
    vault = str(Path(sys.executable).with_name("ansible-vault"))
    subprocess.run([vault, "encrypt", "--vault-password-file", password, variables], check=True, capture_output=True)
    imported = read_inventory(path)
    assert imported.nodes == [Node("cam", "cam", groups=("farm",), labels={"site": "north"})]
    assert imported.problems == ["group_vars and host_vars not imported: encrypted by Ansible Vault"]


REFUSED = {
    "here ansible_connection=local": ("here", "is not SSH"),
    "win ansible_connection=winrm ansible_host=192.0.2.8": ("win", "is not SSH"),
    "_name ansible_host=192.0.2.8": ("_name", "does not fit"),
    "카메라 ansible_host=192.0.2.8": ("카메라", "does not fit"),
    "localhost": ("localhost", "meaning of its own"),
    "tpl ansible_host='{{ other_host }}'": ("tpl", "is a template"),
    "twin ansible_host=192.0.2.1": ("twin", 'port 22 is "good" already'),
    "high ansible_port=70000": ("high", "is not a port"),
    "word ansible_port=ssh": ("word", "is not a port"),
    "bad ansible_host=999.1.1.1": ("bad", "is not an IP address"),
    "key evc_host_key='not a key'": ("key", "does not fit"),
    "self evc_jump_node=self": ("self", "is the node itself"),
    "lab evc_labels=5": ("lab", "is not a mapping"),
}


def test_what_does_not_fit_is_listed_and_the_rest_is_imported(tmp_path: Path) -> None:
    imported = read_inventory(write(tmp_path, "good ansible_host=192.0.2.1\n" + "\n".join(REFUSED) + "\nlast\n"))
    assert [node.name for node in imported.nodes] == ["good", "last"]
    assert imported.problems == []
    for line, (name, reason) in zip(imported.refused, REFUSED.values(), strict=True):
        assert line.startswith(f'"{name}": ')
        assert reason in line


def test_groups_and_variables_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    text = (
        "[9lives]\ncam list='[1, 2]' my:key=1 long=" + "x" * 501 + " tpl='{{ x }}' ansible_ssh_common_args='-J gate'\n"
    )
    imported = read_inventory(write(tmp_path, text))
    assert imported.nodes == [Node("cam", "cam")]
    names = [problem.split(" not imported")[0] for problem in imported.problems]
    assert sorted(names) == sorted(['group "9lives"', "list", "my:key", "long", "tpl", "ansible_ssh_common_args"])


def test_nothing_is_run(tmp_path: Path) -> None:
    witness = tmp_path / "was-here"
    script = write(tmp_path, f"#!/bin/sh\ntouch {witness}\necho '{{}}'\n")
    script.chmod(0o755)
    with pytest.raises(InputError, match="hosts.ini"):
        read_inventory(script)
    (tmp_path / "ansible.cfg").write_text(f"[inventory]\nenable_plugins=script\n[defaults]\nlog_path={witness}\n")
    lookup = write(tmp_path, f"cam note=\"{{{{ lookup('pipe', 'touch {witness}') }}}}\"\n", "template.ini")
    assert read_inventory(lookup).nodes == [Node("cam", "cam")]
    assert not witness.exists()


BAD: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "is empty"),
    "blank": ("\n  \n", "is empty"),
    "comments": ("# nothing\n; here\n", "has no host in it"),
    "binary": (b"\x7fELF\0\0", "is a binary file"),
    "latin": ("cam\nx note=caf\u00e9\n".encode("latin-1"), "line 2 is not UTF-8"),
    "yaml": ("all:\n  hosts:\n    cam:\n", "line 1: Invalid host pattern supplied, ending in"),
    "words": ("cam[1:3]\nfoo bar baz\n", "line 2: Expected key=value host variable assignment"),
    "quote": ("ok\ncam password='hunter2 hunter2\n", "line 2: Error parsing host definition: No closing quotation"),
    "space in password": ("cam ansible_password=one hunter2\n", "line 1: Expected key=value host variable assignment"),
    "section": ("[cam era]\n", "line 1: Invalid section entry"),
    "undefined group": ("[a:vars]\nx=1\n", "not valid for undefined group"),
    "huge range": ("ok\ncam[1:100][1:99999999] x=1\n", ":2: "),
    "json": ('{"all": {"hosts": ["a"]}}', "Invalid host pattern supplied"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_one_line_that_says_where(tmp_path: Path, case: str) -> None:
    content, expected = BAD[case]
    path = write(tmp_path, content)
    with pytest.raises(InputError) as raised:
        read_inventory(path)
    message = str(raised.value)
    assert expected in message
    assert message.startswith(f"path {str(path)!r}:")
    assert "\n" not in message
    assert "hunter2" not in message


def test_bad_paths(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a,b").write_text("cam\n")
    for path, expected in {
        tmp_path: "is a folder",
        tmp_path / "gone": "No such file",
        tmp_path / "pipe": "is not a regular file",
        tmp_path / "a,b": "has a comma",
    }.items():
        with pytest.raises(InputError, match=expected):
            read_inventory(path)


READ_AS_NOBODY = """
import os, sys
from pathlib import Path
from evc.hooks.inventory import read_inventory
if os.geteuid() == 0:
    os.setuid(65534)  # root may read anything
read_inventory(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("folder_mode", [0o711, 0o600])
def test_unreadable_file_or_folder(tmp_path: Path, folder_mode: int) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = write(folder, "cam\n")
    path.chmod(0)
    folder.chmod(folder_mode)
    if os.geteuid() == 0:
        for parent in folder.parents:
            parent.chmod(parent.stat().st_mode | stat.S_IXOTH | stat.S_IXGRP)
    argv = [sys.executable, "-c", READ_AS_NOBODY, str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert "InputError: path " in done.stderr
    assert "cannot be read: Permission denied" in done.stderr


def test_slow_ansible_is_cut(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did not read it in 0.01 s"):
        read_inventory(write(tmp_path, "cam\n"), timeout_s=0.01)
