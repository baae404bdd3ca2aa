"""Nodes and batches as a sweep makes them: one sample and one reading a node, two interfaces, a disk, three zones."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, insert

from evc.fleet.nodes import Node
from evc.store.database import open_engine, upgrade
from evc.store.nodes import store_node
from evc.store.spool import Spool
from evc.store.tables import nodes
from evc.store.writer import Batch, write

TS = 1_700_000_000


def add_nodes(connection: Connection, count: int) -> list[int]:
    """Insert ``count`` nodes ``n1``, ``n2`` ... into an empty database; returns their ids."""
    rows = [
        {
            "id": number,
            "name": f"n{number}",
            "host": f"127.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
            "port": 22,
            "conn_id": "evc_nodes",
            "groups": [],
            "labels": {},
            "thermal_unit": "millidegree_celsius",
            "status": "unknown",
            "registered_ts": TS - 60,
        }
        for number in range(1, count + 1)
    ]
    connection.execute(insert(nodes), rows)
    return [int(str(row["id"])) for row in rows]


def store_with_nodes(engine: Engine, count: int) -> list[int]:
    """Insert ``count`` nodes in a transaction of its own; returns their ids."""
    with engine.begin() as connection:
        return add_nodes(connection, count)


def upgrade_url(url: str) -> tuple[str | None, str]:
    """Upgrade a database, in whatever process this runs."""
    engine = open_engine(url)
    try:
        return upgrade(engine)
    finally:
        engine.dispose()


def store_node_at(url: str, name: str, host: str, ts: int) -> tuple[int, bool]:
    """Store one node, in whatever process this runs."""
    engine = open_engine(url)
    try:
        with engine.begin() as connection:
            return store_node(connection, Node(name, host), ts)
    finally:
        engine.dispose()


def sample(node_id: int, ts: int = TS) -> dict[str, Any]:
    """Return a row of ``node_samples`` with a value in every column that an x86 or ARM board fills."""
    noise = (node_id * 7919 + ts) % 1000 / 1000
    return {
        "ts": ts, "node_id": node_id, "up": 1, "sweep_duration_s": 0.05 + noise, "uptime_s": 86400.5 + ts - TS,
        "cpu_usage_ratio": noise, "cpu_iowait_ratio": noise / 7, "cpu_steal_ratio": 0.0,
        "load1": noise, "load5": noise / 3, "load15": noise / 9,
        "memory_total_bytes": 8_201_183_232, "memory_free_bytes": 1_000_000_000 + node_id,
        "memory_available_bytes": 3_000_000_000 + node_id, "swap_total_bytes": 0, "swap_free_bytes": 0,
        "storage_total_bytes": 62_725_623_808, "storage_used_bytes": 20_000_000_000 + node_id,
        "storage_available_bytes": 40_000_000_000 - node_id, "network_receive_bytes_per_s": 12345.678 * noise,
        "network_transmit_bytes_per_s": 2345.678 * noise, "temperature_celsius": 45.5 + noise, "gpu_usage_ratio": None,
        "throttled": None, "throttled_since_boot": None, "pressure_cpu_ratio": noise / 10,
        "pressure_memory_ratio": 0.0, "pressure_io_ratio": noise / 20,
    }  # fmt: skip


def reading(node_id: int, ts: int = TS) -> dict[str, Any]:
    """Return a row of ``node_readings`` with the counters of CPU and two interfaces."""
    jiffies = [ts % 1_000_000 * 100 + node_id + column for column in range(10)]
    octets = [ts % 1_000_000 * 1000 + node_id + column for column in range(6)]
    uptime_s = 86400.5 + ts - TS
    return {
        "node_id": node_id,
        "ts": ts,
        "boot_id": f"6b1a1c4e-93a5-4a7c-9d0e-{node_id:012d}",
        "uptime_s": uptime_s,
        "missed_sweeps": 0,
        "counters": {"cpu": [uptime_s, ts, jiffies], "network": [uptime_s, ts, {"eth0": octets, "wlan0": octets}]},
        "failing": {},
    }


def details(node_id: int, ts: int = TS) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of the detail tables of one node."""
    key = {"ts": ts, "node_id": node_id}
    zones = {"cpu-thermal": 45.5, "gpu-thermal": 44.25, "soc-thermal": 46.0}
    rate = (node_id * 7919 + ts) % 1000 / 3
    rates = {
        "receive_bytes_per_s": rate, "transmit_bytes_per_s": rate / 7, "receive_errors_per_s": 0.0,
        "transmit_errors_per_s": 0.0, "receive_drops_per_s": 0.0, "transmit_drops_per_s": 0.0,
    }  # fmt: skip
    disk = {
        "mountpoint": "/", "device": "/dev/mmcblk0p2", "filesystem": "ext4", "total_bytes": 62_725_623_808,
        "used_bytes": 20_000_000_000, "available_bytes": 40_000_000_000, "inodes_total": 3_907_584,
        "inodes_free": 3_500_000, "read_only": False,
    }  # fmt: skip
    return {
        "temperature_samples": [{**key, "zone": zone, "celsius": celsius} for zone, celsius in zones.items()],
        "storage_samples": [{**key, **disk}],
        "network_samples": [{**key, "interface": name, **rates} for name in ("eth0", "wlan0")],
    }


def sweep_batch(ids: list[int], ts: int = TS) -> Batch:
    """Return what a sweep of the nodes ``ids`` that all answered leaves behind: 8 rows a node."""
    tables: dict[str, list[dict[str, Any]]] = {
        "node_samples": [sample(node_id, ts) for node_id in ids],
        "node_readings": [reading(node_id, ts) for node_id in ids],
    }
    for node_id in ids:
        for table, rows in details(node_id, ts).items():
            tables.setdefault(table, []).extend(rows)
    return Batch(tables, [{"id": node_id, "last_seen_ts": ts, "status": "up"} for node_id in ids])


def write_sweeps(url: str, ids: list[int], sweeps: int) -> int:
    """Write sweeps of the nodes ``ids``, in whatever process this runs; returns the rows written."""
    engine = open_engine(url)
    try:
        return sum(write(engine, sweep_batch(ids, TS + 30 * sweep)) for sweep in range(sweeps))
    finally:
        engine.dispose()


def put_sweeps(folder: str, ids: list[int], sweeps: int) -> None:
    """Put sweeps of the nodes ``ids`` into a spool, in whatever process this runs."""
    spool = Spool(Path(folder), 100_000_000)
    for sweep in range(sweeps):
        spool.put(sweep_batch(ids, TS + 30 * sweep))


def drain_into(folder: str, url: str, seconds: float) -> int:
    """Drain a spool into a database, at least once and for so long; returns the number of batches."""
    engine = open_engine(url)
    spool = Spool(Path(folder), 100_000_000)
    drained = spool.drain(lambda batch: write(engine, batch))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        drained += spool.drain(lambda batch: write(engine, batch))
        time.sleep(0.01)
    engine.dispose()
    return drained
