"""Fleets of node addresses in 127.0.0.0/8, stored in a metrics database as ``register_node`` stores nodes.

All addresses are one machine, so the first contact with one of them says what first contacts with all would have said:
facts that are read once a day are known, and the counters that the next reading is compared with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evc.fleet.nodes import Node
from evc.ssh.credentials import load_credentials
from evc.store.database import open_engine, reporting, upgrade
from evc.store.nodes import store_node
from evc.store.writer import Batch, write
from evc.sweep.contact import first_contact


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


def store(url: str, host: Host, nodes: Sequence[Node]) -> None:
    """Create the tables, store the nodes and what the first contact with them says."""
    credentials = load_credentials("evc_nodes", login=host.user, key_file=str(host.key_file))
    outcome = asyncio.run(first_contact(nodes[0], {}, lambda _: credentials, connect_timeout_s=20, sweep_timeout_s=20))
    reading = outcome.rows["node_readings"][0]
    engine = open_engine(url)
    upgrade(engine)
    with reporting():
        with engine.begin() as connection:
            ids = [store_node(connection, node, reading["ts"])[0] for node in nodes]
        known = Batch(
            {"node_readings": [{**reading, "node_id": node_id} for node_id in ids]},
            [{**outcome.node, "id": node_id, "status": "up"} for node_id in ids],
        )
        write(engine, known)
    engine.dispose()
