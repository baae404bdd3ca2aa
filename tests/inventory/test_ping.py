"""``ansible -i hosts.ini`` on real sshd with nothing but the two files EVC has written."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from evc.fleet.nodes import Node
from evc.hooks.inventory import known_hosts_file, write_inventory
from evc.ssh.credentials import Credentials
from tests.servers.sshd import SshServer, running_sshd


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("sites")
    with (
        running_sshd(folder / "gate", address="0.0.0.0") as gate,
        running_sshd(folder / "camera", address="0.0.0.0") as camera,
    ):
        shutil.copy(gate.folder / "id.pub", camera.folder / "id.pub")
        spiteful = folder / 'it\'s a 100%d \\ "site"'
        spiteful.mkdir()
        shutil.copy(gate.key_file, spiteful / "key of nodes")
        yield Sites(spiteful, gate, camera)


@dataclass
class Sites:
    """A gate on 127.0.0.1 and a camera behind it, two machines by their host keys."""

    folder: Path
    server_of_gate: SshServer
    server_of_camera: SshServer

    @property
    def gate(self) -> Node:
        return self.server_of_gate.node("gate", host_key=self.server_of_gate.host_key)

    @property
    def camera(self) -> Node:
        server = self.server_of_camera
        return server.node("camera", host="127.0.0.2", host_key=server.host_key, jump_node="gate")

    def write(self, *nodes: Node) -> Path:
        hosts_ini = self.folder / "inven tory" / "hosts.ini"
        hosts_ini.parent.mkdir(exist_ok=True)
        credentials = Credentials("evc_nodes", self.server_of_gate.user, key_file=str(self.folder / "key of nodes"))
        assert write_inventory(hosts_ini, lambda: nodes, lambda _: {"evc_nodes": credentials}) == len(nodes)
        return hosts_ini


def ansible(hosts_ini: Path, *arguments: str) -> dict[str, str]:
    """Return Ansible's answer by host."""
    argv = [str(Path(sys.executable).with_name("ansible")), "-i", str(hosts_ini), "all", "--one-line", *arguments]
    argv += ["-e", f"ansible_python_interpreter={sys.executable}"]
    home = hosts_ini.parent.parent.parent / "home"
    home.mkdir(exist_ok=True)
    # a socket's path may have 107 bytes, which pytest's folders exceed
    with tempfile.TemporaryDirectory(prefix="evc-") as sockets:
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_REMOTE_TEMP": str(home),
            "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=3s",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": sockets,
        }
        done = subprocess.run(argv, capture_output=True, text=True, timeout=90, check=False, cwd=home, env=environment)
    answers = dict(line.split(" | ", 1) for line in done.stdout.splitlines() if " | " in line)
    assert answers, done.stderr
    return answers


def test_direct_node_and_chain_of_jump_nodes_answer(sites: Sites) -> None:
    sensor = replace(sites.camera, name="Sensor", host="127.0.0.3", jump_node="camera")
    answers = ansible(sites.write(sites.gate, sites.camera, sensor), "-m", "ansible.builtin.ping")
    assert {name: "pong" in answer for name, answer in answers.items()} == dict.fromkeys(
        ("gate", "camera", "Sensor"), True
    ), answers


def test_the_way_leads_through_the_jump_node(sites: Sites) -> None:
    distant = replace(sites.camera, host="127.0.0.2")
    answers = ansible(
        sites.write(sites.gate, distant),
        "-m",
        "ansible.builtin.raw",
        "-a",
        "echo $SSH_CONNECTION; ps -o args= -p $PPID",
    )
    assert " 127.0.0.2 " in answers["camera"], answers
    log = (sites.server_of_gate.folder / "sshd.log").read_text()
    assert "127.0.0.2" not in log


def test_another_host_key_is_refused(sites: Sites) -> None:
    wrong = replace(sites.camera, host_key=sites.gate.host_key)
    answers = ansible(sites.write(sites.gate, wrong), "-m", "ansible.builtin.ping")
    assert answers["gate"].startswith("SUCCESS")
    assert "UNREACHABLE" in answers["camera"]
    assert "ssh: @@@@@" in answers["camera"]  # how ssh's banner of a changed key begins


def test_a_jump_node_with_another_host_key_is_refused(sites: Sites) -> None:
    wrong = replace(sites.gate, host_key=sites.camera.host_key)
    answers = ansible(sites.write(wrong, sites.camera), "-m", "ansible.builtin.ping")
    assert "UNREACHABLE" in answers["camera"]


def test_a_node_without_a_pinned_key_is_refused_and_not_pinned(sites: Sites) -> None:
    hosts_ini = sites.write(replace(sites.gate, host_key=None))
    before = known_hosts_file(hosts_ini).read_text()
    answers = ansible(hosts_ini, "-m", "ansible.builtin.ping")
    assert "UNREACHABLE" in answers["gate"]
    assert "host key is known" in answers["gate"]
    assert known_hosts_file(hosts_ini).read_text() == before


def test_names_that_differ_in_case_are_two_pins(sites: Sites) -> None:
    other = replace(sites.gate, name="Gate", host="127.0.0.4", host_key=sites.camera.host_key)
    answers = ansible(sites.write(sites.gate, other), "-m", "ansible.builtin.ping")
    assert answers["gate"].startswith("SUCCESS")
    assert "UNREACHABLE" in answers["Gate"]


def test_equal_addresses_behind_two_gates_share_no_connection(sites: Sites) -> None:
    """Both are the same server here; the pin of ``south`` is another, so an answer of ``south`` would come over a
    connection that was opened to ``north``."""
    second = replace(sites.camera, name="gate2", jump_node=None)
    north = replace(sites.gate, name="north", host="127.0.0.5", jump_node="gate")
    south = replace(north, name="south", jump_node="gate2", host_key=sites.camera.host_key)
    answers = ansible(
        sites.write(sites.gate, second, north, south),
        "-m",
        "ansible.builtin.raw",
        "-a",
        "echo here",
        "--limit",
        "north,south",
        "--forks",
        "1",
    )
    assert "here" in answers["north"], answers
    assert "UNREACHABLE" in answers["south"], answers
