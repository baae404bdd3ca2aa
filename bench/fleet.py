"""Fleets of node addresses in 127.0.0.0/8, stored in a metrics database as ``register_node`` stores nodes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evc.fleet.nodes import Node
from evc.store.database import open_engine, reporting, upgrade
from evc.store.nodes import store_node


@dataclass(frozen=True, slots=True)
class Host:
    """What answers at the addresses.

    :param ports: one for each server process; nodes are spread over them
    :param host_key: what they present, ``TYPE BASE64``
    :param key_file: the private key that they accept
    """

    ports: tuple[int, ...]
    host_key: str
    user: str
    key_file: Path


def address(index: int) -> str:
    """Return the address of node ``index``, 0 to 249,999: 127.1.0.1, 127.1.0.2 ..."""
    return f"127.{1 + index // 62_500}.{index // 250 % 250}.{1 + index % 250}"


def nodes_of(host: Host, count: int) -> list[Node]:
    """Return ``count`` nodes with pinned host keys."""
    return [
        Node(
            name=f"node-{index:05}",
            host=address(index),
            port=host.ports[index % len(host.ports)],
            host_key=host.host_key,
            groups=("bench",),
        )
        for index in range(count)
    ]


def store(url: str, nodes: Sequence[Node]) -> None:
    """Create the tables and store the nodes."""
    engine = open_engine(url)
    upgrade(engine)
    with reporting(), engine.begin() as connection:
        for node in nodes:
            store_node(connection, node, int(time.time()))
    engine.dispose()
