"""What tests of inference share: orders, runs in this process or in one that is killed, what was stored."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from typing import Any

from sqlalchemy import Engine, select

from evc.fleet.containers import MODE_LABEL, ONCE
from evc.fleet.images import Image
from evc.fleet.models import Model
from evc.inference.continuous import Bounds, Collector, Round, Visit
from evc.inference.once import OnceRun, Order
from evc.ssh.credentials import Credentials, load_credentials
from evc.ssh.pool import Pool
from evc.store.database import open_engine
from evc.store.inference import CONTINUOUS, Run, unfinished_runs
from evc.store.nodes import find_node, store_node
from evc.store.tables import inference_results, inference_runs
from tests.fleet.reid import model
from tests.servers.edge_node import EdgeNode
from tests.store.batches import TS

log = logging.getLogger("tests.inference")


def watcher(**more: Any) -> Model:
    """Return a model that prints persons."""
    given = {
        "inputs": ["file", "folder", "url"],
        "results": [{"kind": "person"}],
        "resources": {"memory_bytes": 32 * 1024**2, "cpus": 0.5},
        "stop_grace_s": 1,
    }
    return model(**{**given, **more})


def counting(count: int, every_s: float = 0.0, then: str = "") -> str:
    """Return a script that prints so many persons, numbered from 0."""
    line = '{"kind":"person","label":"\'$i\'","frame":\'$i\',"latency_ms":12.5}'
    pause = f"sleep {every_s};" if every_s else ""
    return f"i=0; while [ $i -lt {count} ]; do echo '{line}'; i=$((i+1)); {pause} done\n{then}"


@dataclass(frozen=True, slots=True)
class Way:
    """How to get to a node, from any process."""

    name: str
    host: str
    user: str
    host_key: str
    key_file: str

    def credentials(self, conn_id: str) -> Credentials:
        return load_credentials(conn_id, login=self.user, key_file=self.key_file)


def way_to(node: EdgeNode) -> Way:
    return Way(node.name, node.address, node.user, node.host_key, str(node.key_file))


def registered(database: Engine, *nodes: EdgeNode) -> list[int]:
    """Store the nodes; returns their ids."""
    with database.begin() as connection:
        return [store_node(connection, node.node(), TS)[0] for node in nodes]


def order(node_id: int, image: Image, registry: str, **more: Any) -> Order:
    """Return an order for one node."""
    given = {"run_id": "manual__1", "model": watcher(), "timeout_s": 60}
    return Order(**{**given, "node_id": node_id, "image": image, "registry": registry, **more})


async def _once(database: Engine, way: Way, given: Order) -> Run:
    with database.connect() as connection:
        node = find_node(connection, way.name)
    assert node is not None
    pool = Pool(way.credentials, connect_timeout_s=10)
    once = OnceRun(database, given, way.name, log)
    try:
        session, _ = await pool.session(node, {})
        session.connection.set_keepalive(1, 2)
        return await once.run(session)
    finally:
        await pool.close()


def run_once(database: Engine, node: EdgeNode, given: Order, *, cancel_when: Callable[[], bool] | None = None) -> Run:
    """Carry out an order in this process."""

    async def main() -> Run:
        task = asyncio.create_task(_once(database, way_to(node), given))
        if cancel_when is not None:
            while not (task.done() or cancel_when()):  # noqa: ASYNC110  it is in a database
                await asyncio.sleep(0.1)
            task.cancel()
        return await task

    return asyncio.run(main())


def _once_elsewhere(url: str, way: Way, given: Order) -> None:
    asyncio.run(_once(open_engine(url), way, given))


def start_once(database: Engine, node: EdgeNode, given: Order) -> BaseProcess:
    """Begin to carry out an order in a process that may be killed."""
    url = database.url.render_as_string(hide_password=False)
    process = get_context("spawn").Process(target=_once_elsewhere, args=(url, way_to(node), given))
    process.start()
    return process


async def _collect(database: Engine, ways: list[Way], kinds: Any, bounds: Bounds | None) -> Round:
    with database.connect() as connection:
        nodes = [find_node(connection, way.name) for way in ways]
        runs = unfinished_runs(connection, CONTINUOUS)
    pool = Pool(ways[0].credentials, connect_timeout_s=3)
    visits = [Visit(node, [run for run in runs if run.node_id == node.id]) for node in nodes if node]
    try:
        done = await Collector(database, pool, {}, kinds, log, bounds=bounds).collect(visits)
    finally:
        await pool.close()
    done.raise_faults()
    return done


def collect(database: Engine, *nodes: EdgeNode, bounds: Bounds | None = None) -> Round:
    """Do one round of collecting."""
    return asyncio.run(_collect(database, [way_to(node) for node in nodes], {}, bounds))


def _collect_elsewhere(url: str, ways: list[Way]) -> None:
    asyncio.run(_collect(open_engine(url), ways, {}, None))


def start_collecting(database: Engine, *nodes: EdgeNode) -> BaseProcess:
    """Begin a round in a process that may be killed."""
    url = database.url.render_as_string(hide_password=False)
    process = get_context("spawn").Process(target=_collect_elsewhere, args=(url, [way_to(node) for node in nodes]))
    process.start()
    return process


def rows(database: Engine, run_id: int | None = None) -> list[dict[str, Any]]:
    """Return what is stored, in the order of runs and lines."""
    query = select(inference_results).order_by(inference_results.c.run_id, inference_results.c.seq)
    if run_id is not None:
        query = query.where(inference_results.c.run_id == run_id)
    with database.connect() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def labels(database: Engine, run_id: int | None = None) -> list[str]:
    return [str(row["label"]) for row in rows(database, run_id)]


def run_rows(database: Engine) -> list[dict[str, Any]]:
    with database.connect() as connection:
        return [
            dict(row) for row in connection.execute(select(inference_runs).order_by(inference_runs.c.id)).mappings()
        ]


def left_on(node: EdgeNode) -> list[str]:
    """Return the containers of single runs that are on a node."""
    with node.engine() as engine:
        found = engine.containers.list(ignore_removed=True, all=True, filters={"label": f"{MODE_LABEL}={ONCE}"})
        return [str(container.name) for container in found]


def payload(row: dict[str, Any]) -> Any:
    return row["payload"] if not isinstance(row["payload"], str) else json.loads(row["payload"])
