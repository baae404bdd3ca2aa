"""What one task of collect_telemetry does, in a fresh process that measures itself: a child of the bench.

The way is the task's own: ``Collection`` with real ticks, sessions, probes, writer and spool. Only the depot is one
that also notes the processor time after each sweep that was written.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.child import cpu_s, read_order, reply
from bench.cpu import memory_mb
from evc.fleet.ticks import Ticks
from evc.ssh.credentials import load_credentials
from evc.store.database import open_engine
from evc.store.spool import Spool
from evc.store.writer import Batch
from evc.sweep.depot import Depot
from evc.sweep.reading import Memory
from evc.sweep.run import Collection, Job, Shard

SWEEP_TIMEOUT_S = 12
CONNECT_TIMEOUT_S = 8


@dataclass(frozen=True, slots=True)
class Order:
    """What the child is to do.

    :param url: of the metrics database
    :param state_folder: for the spool and the list of nodes
    :param start_ts: first tick, unix seconds; 0 means as soon as everything is imported
    :param clock_ahead_s: how far its clock is ahead: 300 s after first contact every node is due for one ``df``, as it
        is once in each run of ten sweeps
    :param with_airflow: import first what a task process has imported, for its memory
    """

    url: str
    state_folder: str
    user: str
    key_file: str
    start_ts: int
    interval_s: int
    sweeps: int
    shard_index: int = 0
    shard_count: int = 1
    clock_ahead_s: int = 300
    with_airflow: bool = False
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """One sweep, from the end of the one before to its last row written.

    :param cpu_s: user and system, all in
    :param write_cpu_s: of it, in the thread that wrote
    :param duration_s: of the sweep itself
    :param reason: why the first of the nodes that are down did not answer
    """

    ts: int
    cpu_s: float
    write_cpu_s: float
    write_s: float
    duration_s: float
    nodes_up: int
    nodes_down: int
    rows: int
    reason: str | None


class MeasuringDepot(Depot):
    """A depot that notes what each sweep has cost when its rows are written."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.marks: list[Mark] = []
        self.opened_cpu_s = self._last = cpu_s()

    def open(self) -> dict[int, Memory]:
        memories = super().open()
        self.opened_cpu_s = self._last = cpu_s()
        return memories

    def store(self, batch: Batch) -> bool:
        begun, thread = time.monotonic(), time.thread_time()
        is_written = super().store(batch)
        now, sweep = cpu_s(), batch.tables["sweeps"][0]
        silent = [row["message"] for row in batch.tables.get("probe_runs", []) if row["probe"] == "ssh"]
        self.marks.append(
            Mark(
                ts=sweep["ts"],
                cpu_s=now - self._last,
                write_cpu_s=time.thread_time() - thread,
                write_s=time.monotonic() - begun,
                duration_s=sweep["duration_s"],
                nodes_up=sweep["nodes_up"],
                nodes_down=sweep["nodes_down"],
                rows=sum(map(len, batch.tables.values())) if is_written else 0,
                reason=silent[0] if sweep["nodes_down"] and silent else None,
            )
        )
        self._last = now
        return is_written


def _import_airflow() -> None:
    # what a task process holds: Airflow's runner, and the operator with all that its execute() imports
    import airflow.sdk.execution_time.task_runner  # noqa: F401, PLC0415

    import evc.hooks.fleet  # noqa: PLC0415
    import evc.operators.sweep_nodes  # noqa: F401, PLC0415


def main(order: Order) -> dict[str, Any]:
    """Keep the ticks of ``order`` and return what they cost."""
    if order.with_airflow:
        _import_airflow()
    log = logging.getLogger("bench.task")
    log.setLevel(logging.ERROR)  # nodes that are down, ticks that were missed: the answer has them
    folder = Path(order.state_folder)
    memory_before_mb = memory_mb(what="VmRSS")
    credentials = load_credentials("evc_nodes", login=order.user, key_file=order.key_file)
    begun = cpu_s()
    depot = MeasuringDepot(open_engine(order.url), Spool(folder / "spool", 256_000_000), folder, log)
    ticks = Ticks((order.start_ts or int(time.time()) + 1) + order.clock_ahead_s, order.interval_s, order.sweeps)
    collection = Collection(
        Job("bench", ticks, Shard(order.shard_index, order.shard_count)),
        depot,
        lambda _: credentials,
        connect_timeout_s=CONNECT_TIMEOUT_S,
        sweep_timeout_s=SWEEP_TIMEOUT_S,
        log=log,
        clock=lambda: time.time() + order.clock_ahead_s,
    )
    report = asyncio.run(collection.run())
    return {
        "open_cpu_s": depot.opened_cpu_s - begun,
        "close_cpu_s": cpu_s() - begun - (depot.opened_cpu_s - begun) - sum(mark.cpu_s for mark in depot.marks),
        "marks": [asdict(mark) for mark in depot.marks],
        "missed_ticks": report.missed_ticks,
        "memory_before_mb": memory_before_mb,
        "memory_peak_mb": memory_mb(),
    }


def _profiled(order: Order, path: str) -> dict[str, Any]:
    import cProfile  # noqa: PLC0415

    profile = cProfile.Profile(time.thread_time)  # others may use the processor meanwhile
    result = profile.runcall(main, order)
    profile.dump_stats(path)
    return result


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    logging.getLogger("asyncssh").setLevel(logging.WARNING)
    given = Order(**read_order())
    reply(_profiled(given, given.profile) if given.profile else main(given))
