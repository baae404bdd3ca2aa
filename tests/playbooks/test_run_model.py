"""run_model.yaml by hand, on real nodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rollout.nodes import Images
from tests.servers.edge import EdgeFleet
from tests.servers.edge_node import EdgeNode

pytestmark = [pytest.mark.fleet, pytest.mark.xdist_group("fleet")]

PLAYBOOK = Path(__file__).parents[2] / "playbooks" / "run_model.yaml"
SCRIPT = """echo '{"kind":"person","label":"'"$EVC_INPUT_KIND"'"}'
echo '{"kind":"person","label":"{{ 1 + 1 }}"}'
[ -z "$EVC_INPUT" ] || cat "$EVC_INPUT" >/dev/null || exit 9
case "$EVC_LIMIT" in 7) echo oh no >&2; exit 7;; 99) sleep 1000;; esac
true"""


@pytest.fixture
def hand(edge_nodes: list[EdgeNode], edge_fleet: EdgeFleet, tmp_path: Path) -> Hand:
    for node in edge_nodes[:2]:
        node.trust(edge_fleet.registry)
    return Hand(edge_nodes[:2], Images(edge_fleet), tmp_path)


class Hand:
    """Runs the playbook as a person does."""

    def __init__(self, nodes: list[EdgeNode], images: Images, folder: Path) -> None:
        self.nodes, self.out = nodes, folder / "out"
        self._image = images.push(SCRIPT).reference(images.registry)
        self._inventory = folder / "hosts.ini"
        lines = [
            f"{it.name} ansible_host={it.address} ansible_user={it.user} ansible_ssh_private_key_file={it.key_file} "
            "ansible_ssh_common_args='-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null'"
            for it in nodes
        ]
        self._inventory.write_text("\n".join(["[farm]", *lines, ""]))

    def run(self, **given: str) -> tuple[int, str]:
        """Return the exit status and what was said; no container may be left."""
        program = Path(sys.executable).with_name("ansible-playbook")
        extra = json.dumps({"nodes": "farm", "image": self._image, **given})
        done = subprocess.run(
            [program, "-i", self._inventory, PLAYBOOK, "-e", extra],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        )
        for node in self.nodes:
            assert node.run("docker", "ps", "-aq") == ""
        return done.returncode, done.stdout + done.stderr


def test_result_lines_come_back_from_each_node(hand: Hand) -> None:
    for node in hand.nodes:
        node.write_file("/data/a b.txt", b"x")
    status, said = hand.run(input="/data/a b.txt", limit="5", out=str(hand.out))
    assert status == 0, said
    for node in hand.nodes:
        lines = [json.loads(line) for line in (hand.out / f"{node.name}.jsonl").read_text().splitlines()]
        assert lines == [{"kind": "person", "label": "file"}, {"kind": "person", "label": "{{ 1 + 1 }}"}]


def test_how_it_ended_is_told(hand: Hand) -> None:
    status, said = hand.run(limit="7")
    assert (status, said.count("exit code 7: 2 lines; last: oh no")) == (2, 3), said
    status, said = hand.run(limit="99", timeout_s="4")
    assert (status, said.count("stopped after 4 s: 2 lines")) == (0, 2), said


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"input": "/data/none"}, "/data/none is not on this node"),
        ({"input": "/a,readonly=false"}, "input a path on the node without"),
        ({"image": "--privileged"}, "image is an image"),
        ({"limit": "0"}, "whole numbers from 1"),
    ],
)
def test_what_does_not_fit_starts_nothing(hand: Hand, given: dict[str, str], message: str) -> None:
    status, said = hand.run(**given)
    assert status == 2
    assert message in said
