"""Nodes of an inventory into the metrics database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest
from sqlalchemy import Connection

from evc.fleet.inventory import Imported, render
from evc.fleet.nodes import Node
from evc.hooks.inventory import Outcome, import_nodes, read_inventory
from evc.store.database import embedded_url, open_engine, upgrade
from evc.store.nodes import list_nodes, store_node

TS = 1_700_000_000
KEYS = [" ".join(asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().split()[:2]) for _ in "ab"]


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    engine = open_engine(embedded_url(tmp_path))
    upgrade(engine)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def stored(connection: Connection) -> list[Node]:
    return [replace(node, id=None) for node in list_nodes(connection)]


def test_an_import_adds_and_a_second_one_changes_nothing(connection: Connection, tmp_path: Path) -> None:
    path = tmp_path / "farm"
    path.write_text(
        "[cameras]\ncam[1:3] ansible_port=2222 site=수원\n[cameras:vars]\nevc_jump_node=gate\n[gates]\ngate\n"
    )
    imported = read_inventory(path)
    assert import_nodes(connection, imported, TS) == Outcome(added=["gate", "cam1", "cam2", "cam3"])
    assert sorted(imported.nodes, key=lambda node: node.name) == stored(connection)
    assert import_nodes(connection, read_inventory(path), TS + 1) == Outcome(unchanged=["gate", "cam1", "cam2", "cam3"])


def test_what_evc_has_written_is_unchanged(connection: Connection, tmp_path: Path) -> None:
    nodes = [
        Node(
            "cam", "10.0.0.2", 2222, "pi", ("a", "b"), {"k": "{{ v }}"}, "서울", KEYS[0], "other", "gate", "deci_kelvin"
        ),
        Node("gate", "192.0.2.1"),
    ]
    for node in nodes:
        store_node(connection, node, TS)
    path = tmp_path / "hosts.ini"
    path.write_text(render(list_nodes(connection), {}, "/k"))
    assert import_nodes(connection, read_inventory(path), TS) == Outcome(unchanged=["gate", "cam"])
    assert stored(connection) == nodes


def test_what_an_inventory_does_not_say_stays(connection: Connection) -> None:
    known = Node("cam", "192.0.2.7", 22, "pi", ("a",), {"k": "v"}, "서울", KEYS[0], "other", None, "deci_kelvin")
    store_node(connection, known, TS)
    imported = Imported([Node("cam", "192.0.2.7", groups=("b",), labels={"k": "w", "m": "n"})])
    assert import_nodes(connection, imported, TS) == Outcome(changed=["cam"])
    assert stored(connection) == [replace(known, groups=("a", "b"), labels={"k": "w", "m": "n"})]
    assert import_nodes(connection, imported, TS) == Outcome(unchanged=["cam"])


def test_taken_names_and_addresses_are_listed_and_the_rest_imported(connection: Connection) -> None:
    store_node(connection, Node("cam", "192.0.2.7", host_key=KEYS[0]), TS)
    imported = Imported(
        [
            Node("cam", "192.0.2.8"),
            Node("other", "192.0.2.7"),
            Node("behind", "10.0.0.1", jump_node="gone"),
            Node("round", "10.0.0.2", jump_node="about"),
            Node("about", "10.0.0.3", jump_node="round"),
            Node("new", "10.0.0.4", jump_node="cam"),
        ]
    )
    outcome = import_nodes(connection, imported, TS)
    assert outcome.added == ["new"]
    reasons = dict(line.split(": ", 1) for line in outcome.refused)
    assert '"cam" is registered at 192.0.2.7 port 22' in reasons["cam"]
    assert '192.0.2.7 port 22 is registered as "cam"' in reasons["other"]
    assert '"gone" is not a registered node' in reasons["behind"]
    assert set(reasons) == {"cam", "other", "behind", "round", "about"}
    assert [node.name for node in stored(connection)] == ["cam", "new"]


def test_another_host_key_than_the_pinned_one_is_refused(connection: Connection) -> None:
    store_node(connection, Node("cam", "192.0.2.7", host_key=KEYS[0]), TS)
    outcome = import_nodes(connection, Imported([Node("cam", "192.0.2.7", host_key=KEYS[1])]), TS)
    assert outcome.refused == [
        "cam: host_key: is not the one that is pinned; allowed: the pinned key, or register_node with the new one"
    ]
    assert stored(connection)[0].host_key == KEYS[0]
