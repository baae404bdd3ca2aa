"""The sweeps of one task: kept ticks, and one writer."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from evc.errors import EvcError, Stopped
from evc.fleet.log import Log
from evc.fleet.nodes import Node
from evc.fleet.ticks import Ticks
from evc.fleet.words import counted
from evc.ssh.pool import CredentialsOf, Pool
from evc.ssh.session import fingerprint
from evc.store.writer import Batch
from evc.sweep.depot import Depot
from evc.sweep.reading import Memory
from evc.sweep.sweeper import Sweeper, SweepResult


@dataclass(frozen=True, slots=True)
class Shard:
    """Which of the selected nodes a task sweeps: those whose id leaves ``index`` when divided by ``count``."""

    index: int = 0
    count: int = 1

    def holds(self, node: Node) -> bool:
        """Whether the node is one of this shard's."""
        return node.id is not None and node.id % self.count == self.index


@dataclass(frozen=True, slots=True)
class Job:
    """What one task is to do.

    :param run_id: of the DAG run; with the shard, the key under which its sweeps are recorded
    :param names: only these nodes, by name; None means every registered node
    :param done: ``ts`` of ticks that an earlier try of the task kept
    :param is_one_off: the ticks begin as soon as the first sweep can
    """

    run_id: str
    ticks: Ticks
    shard: Shard = Shard()
    names: frozenset[str] | None = None
    done: frozenset[int] = frozenset()
    is_one_off: bool = False

    def picks(self, nodes: Sequence[Node]) -> list[Node]:
        """Return the nodes of this job among all nodes."""
        chosen = [node for node in nodes if self.names is None or node.name in self.names]
        return [node for node in chosen if self.shard.holds(node)]


@dataclass(slots=True)
class Report:
    """What a task did: its return value in Airflow."""

    sweeps: int = 0
    missed_ticks: int = 0
    nodes_up: int = 0
    nodes_down: int = 0
    rows_written: int = 0
    batches_spooled: int = 0
    faults: dict[str, EvcError] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Return the numbers, JSON-able."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name != "faults"}


class Collection:
    """Keeps the ticks of a job and hands each result to one writer, so that a slow database delays no sweep."""

    def __init__(
        self,
        job: Job,
        depot: Depot,
        credentials_of: CredentialsOf,
        *,
        connect_timeout_s: float,
        sweep_timeout_s: float,
        log: Log,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._job, self._depot, self._log, self._clock = job, depot, log, clock
        self._credentials_of = credentials_of
        self._connect_timeout_s, self._sweep_timeout_s = connect_timeout_s, sweep_timeout_s
        self._memories: dict[int, Memory] = {}
        self._results: asyncio.Queue[tuple[int, int, SweepResult]] = asyncio.Queue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self.report = Report()

    async def run(self) -> Report:
        """Keep every tick that can be kept and return what came of them.

        :raises DatabaseError: at the start, where not even the nodes are known; at the end, where samples still wait
        :raises EvcError: a login could not be used, or EVC itself erred; all other nodes were swept nevertheless
        :raises Stopped: :meth:`stop` was called; what was swept until then is written
        """
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._memories = await asyncio.to_thread(self._depot.open)
        if self._job.is_one_off:
            start_ts = max(self._job.ticks.start_ts, int(self._clock()))  # not before everything is ready
            self._job = replace(self._job, ticks=replace(self._job.ticks, start_ts=start_ts))
        pool = Pool(self._credentials_of, connect_timeout_s=self._connect_timeout_s)
        writer = asyncio.create_task(self._write())
        try:
            await self._sweep_ticks(pool, writer)
            await self._until_written(writer)
        except asyncio.CancelledError:
            await self._until_written(writer)
            done, count = self.report.sweeps, self._job.ticks.count
            raise Stopped(f"told to end after {done} sweeps of {count}; a retry goes on from there") from None
        finally:
            writer.cancel()
            await pool.close()
        return self._close()

    def stop(self) -> None:
        """End the run early, from a signal handler or another thread."""
        if self._loop and self._task and not self._task.done():
            self._loop.call_soon_threadsafe(self._task.cancel)

    async def _sweep_ticks(self, pool: Pool, writer: asyncio.Task[None]) -> None:
        ticks = self._job.ticks
        _raise_descriptor_limit()
        longest_s = max(0.9 * ticks.interval_s, self._connect_timeout_s + self._sweep_timeout_s)
        sweeper = Sweeper(pool, timeout_s=self._sweep_timeout_s, deadline_s=longest_s)
        index, missed = 0, 0
        while (following := max(ticks.next_index(self._clock()), index)) < ticks.count:
            missed += self._undone(index, following)
            index = following + 1
            if ticks.at(following) in self._job.done:
                continue
            if not await self._until(ticks.at(following)):
                index = following
                break
            result = await self._sweep(sweeper, pool, ticks.at(following))
            await self._results.put((following, missed, result))
            missed = 0
            if writer.done():
                return
        self._count_missed(missed + self._undone(index, ticks.count))

    async def _until(self, ts: int) -> bool:
        """Sleep until ``ts``; False where the clock was set back meanwhile, so that it is too far away."""
        while (wait_s := ts - self._clock()) > 0:
            if self.report.sweeps and wait_s > 2 * self._job.ticks.interval_s:
                self._log.warning("the clock was set back: %d s to the next tick; the run ends here", wait_s)
                return False
            await asyncio.sleep(min(wait_s, self._job.ticks.interval_s))
        return True

    def _undone(self, begin: int, end: int) -> int:
        """Return how many of the ticks from ``begin`` up to ``end`` nobody kept."""
        return sum(self._job.ticks.at(index) not in self._job.done for index in range(begin, end))

    async def _sweep(self, sweeper: Sweeper, pool: Pool, ts: int) -> SweepResult:
        registered = {node.name: node for node in self._depot.nodes}
        for node_id, memory in self._depot.take_memories().items():
            self._memories.setdefault(node_id, memory)
        result = await sweeper.sweep(self._job.picks(self._depot.nodes), registered, self._memories, ts)
        for node, outcome in result.outcomes:
            self._memories[node.id or 0] = outcome.memory
        self._depot.pin(pool.first_contacts)
        await pool.keep_only(set(registered))
        return result

    async def _write(self) -> None:
        while True:
            index, missed, result = await self._results.get()
            batch = to_batch(result, self._job, missed)
            rows = sum(len(rows) for rows in batch.tables.values())
            is_written = await asyncio.to_thread(self._depot.store, batch)
            self._note(index, missed, result, rows, is_written)
            self._results.task_done()

    async def _until_written(self, writer: asyncio.Task[None]) -> None:
        done = asyncio.create_task(self._results.join())
        await asyncio.wait({done, writer}, return_when=asyncio.FIRST_COMPLETED)
        done.cancel()
        if writer.done():
            writer.result()  # raises what stopped it

    def _note(self, index: int, missed: int, result: SweepResult, rows: int, is_written: bool) -> None:
        failures = result.failures
        report = self.report
        report.sweeps += 1
        report.nodes_up, report.nodes_down = len(result.outcomes) - len(failures), len(failures)
        report.rows_written += rows if is_written else 0
        report.batches_spooled += not is_written
        report.faults.update(result.faults)
        self._count_missed(missed)
        self._log.info(
            "sweep %d/%d at %s: %d up, %d down, %.2f s, %d rows %s",
            index + 1,
            self._job.ticks.count,
            time.strftime("%H:%M:%S", time.gmtime(result.ts)),
            report.nodes_up,
            report.nodes_down,
            result.duration_s,
            rows,
            "written" if is_written else "wait in the spool",
        )
        for line in sorted(failures):
            self._log.warning("  down: %s", line)
        for fault in result.faults.values():
            self._log.error("  not swept: %s", fault)

    def _count_missed(self, missed: int) -> None:
        if missed:
            self.report.missed_ticks += missed
            why = "this task started late or a sweep took too long"
            self._log.warning("%s could not be kept: %s", counted(missed, "tick"), why)

    def _close(self) -> Report:
        if self.report.faults:
            raise EvcError("; ".join(str(fault) for fault in self.report.faults.values()))
        self._depot.raise_if_unwritten()
        return self.report


def _raise_descriptor_limit() -> None:
    """Let this process open as many connections as it may: the usual soft limit of 1,024 is less than a shard needs."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def to_batch(result: SweepResult, job: Job, missed: int) -> Batch:
    """Return everything that one sweep leaves behind, for one transaction."""
    batch = Batch({}, [])
    for _, outcome in result.outcomes:
        for table, rows in outcome.rows.items():
            batch.tables.setdefault(table, []).extend(rows)
        if outcome.node:
            batch.nodes.append(outcome.node)
    for node, key in result.hops:
        batch.nodes.append({"id": node.id, "host_key": key})
        message = f"pinned {fingerprint(key)} at first contact, as a jump node"
        event = {"kind": "host_key_pinned", "severity": "info", "message": message}
        batch.tables.setdefault("node_events", []).append({"ts": result.ts, "node_id": node.id, **event})
    down = len(result.failures)
    batch.tables["sweeps"] = [_sweep_row(result, job, missed, len(result.outcomes) - down, down, batch)]
    return batch


def _sweep_row(result: SweepResult, job: Job, missed: int, up: int, down: int, batch: Batch) -> dict[str, Any]:
    return {
        "run_id": job.run_id,
        "shard": job.shard.index,
        "ts": result.ts,
        "duration_s": result.duration_s,
        "nodes_up": up,
        "nodes_down": down,
        "rows_written": sum(len(rows) for rows in batch.tables.values()),
        "missed_ticks": missed,
    }
