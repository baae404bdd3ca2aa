"""What is rendered and read back by the real ansible-inventory is what was there."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncssh
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from evc.fleet import inventory, openssh
from evc.fleet.nodes import THERMAL_UNITS, Node, make_node
from evc.fleet.openssh import Login
from evc.hooks.inventory import read_inventory

HOST_KEY = " ".join(asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().split()[:2])
LOGINS = {"evc_nodes": Login("ubuntu", "/etc/evc/keys/a key.pem"), "other.site": Login("pi")}

texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=[*map(chr, range(32)), "\x7f"]),
    min_size=1,
    max_size=40,
)
spiteful = st.sampled_from(
    [
        "경기도 수원시 영통구 광교산로 154-42",
        "{{ lookup('pipe', 'touch /tmp/evc-was-here') }}",
        '{{ "{" }}',
        "{% raw %}",
        "{#",
        "a{b",
        "# not a comment",
        "x=1 y=2",
        "'single' \"double\" \\back\\",
        "1.10",
        "007",
        "True",
        "None",
        "[1, 2]",
        "$HOME `id` ;rm -rf /",
        "next\x85line",
        "para\u2029graph",
        "nan",
        "1_000",
        "ansible_host=203.0.113.9",
    ]
)
values = (spiteful | texts).filter(lambda text: text.strip() == text)
hosts = st.sampled_from(["192.0.2.7", "2001:db8::7", "fe80::1%eth0", "node.example.org", "10", "cafe", "::1"]).filter(
    lambda host: host != "10"
)
groups = st.lists(st.sampled_from(["cameras", "site-a", "_x", "Farm_2"]), max_size=3)
labels = st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,8}", fullmatch=True), values, max_size=3)


@st.composite
def fleets(draw: st.DrawFn) -> list[Node]:
    nodes: list[Node] = []
    names = draw(
        st.lists(
            st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,6}[A-Za-z0-9])?", fullmatch=True),
            min_size=20,
            max_size=40,
            unique=True,
        )
    )
    for number, name in enumerate(names):
        if name.lower() in {"all", "ungrouped", "localhost", "cameras", "_x"}:
            continue
        described: dict[str, Any] = {
            "name": name,
            "host": draw(hosts),
            "port": 1000 + number,
            "user": draw(st.sampled_from([None, "root", "pi", "_svc", "true"])),
            "groups": draw(groups),
            "labels": draw(labels),
            "address": draw(st.none() | values),
            "host_key": draw(st.sampled_from([None, HOST_KEY])),
            "conn_id": draw(st.sampled_from(["evc_nodes", "other.site", "12", "unknown"])),
            "jump_node": draw(st.none() | st.sampled_from(nodes[:4]).map(lambda node: node.name)) if nodes else None,
            "thermal_unit": draw(st.sampled_from(THERMAL_UNITS)),
        }
        nodes.append(make_node(described))
    return nodes


# each example starts Ansible, so shrinking one would take minutes
@settings(
    max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate]
)
@given(fleet=fleets())
def test_nodes_come_back_equal(tmp_path_factory: Any, fleet: list[Node]) -> None:
    path = tmp_path_factory.mktemp("inventory") / "hosts.ini"
    path.write_text(inventory.render(fleet, LOGINS, "/var/lib/evc/known hosts"), encoding="utf-8")
    came = read_inventory(path)
    assert came.problems == []
    came_back = {node.name: node for node in came.nodes}
    assert sorted(came_back) == sorted(node.name for node in fleet)
    assert [(node, came_back[node.name]) for node in fleet if node != came_back[node.name]] == []


def test_ansible_itself_sees_the_text_and_runs_no_template(tmp_path: Path) -> None:
    witness = tmp_path / "was-here"
    text = f"{{{{ lookup('pipe', 'touch {witness}') }}}} \"수원\" {{% x"
    node = Node("cam", "192.0.2.7", labels={"note": text}, address=text)
    path = tmp_path / "hosts.ini"
    path.write_text(inventory.render([node], {}, str(tmp_path / "known_hosts")), encoding="utf-8")
    shown = ansible(
        path,
        "cam",
        "-m",
        "ansible.builtin.debug",
        "-a",
        "msg={{ [evc_address, evc_labels.note] | to_json }}",
        "-c",
        "local",
    )
    assert json.loads(json.loads(shown.split("=>", 1)[1])["msg"]) == [text, text]
    assert not witness.exists()


def ansible(path: Path, *arguments: str) -> str:
    argv = [str(Path(sys.executable).with_name("ansible")), "-i", str(path), *arguments]
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=path.parent,
        env={"PATH": "/usr/bin:/bin", "HOME": str(path.parent), "LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_nodes_with_a_broken_way_are_left_out_and_named() -> None:
    circle = [Node("a", "10.0.0.1", jump_node="b"), Node("b", "10.0.0.2", jump_node="a")]
    text = inventory.render([*circle, Node("c", "10.0.0.3", jump_node="gone"), Node("d", "10.0.0.4")], {}, "/k")
    comments = [line for line in text.splitlines() if line.startswith("# left out: ")]
    assert [line.split(": ")[1] for line in comments] == ["a", "b", "c"]
    assert '"gone" is not a registered node' in comments[2]
    assert [line.split()[0] for line in text.splitlines() if "ansible_host=" in line] == ["d"]


def test_equal_private_addresses_do_not_share_a_connection() -> None:
    sites = [Node("gate1", "192.0.2.1"), Node("gate2", "192.0.2.2")]
    cameras = [Node("cam1", "10.0.0.5", jump_node="gate1"), Node("cam2", "10.0.0.5", jump_node="gate2")]
    ways = {openssh.control_path(camera, [gate]) for camera, gate in zip(cameras, sites, strict=True)}
    assert len(ways) == 2
    moved = dataclasses.replace(sites[0], host="192.0.2.9")
    assert openssh.control_path(cameras[0], [moved]) not in ways
