"""Runs of inference and their result lines, each line once.

A line's key is the number of its run and its own number in it. Rows, the count of lines and the place where reading
goes on are written in one transaction, and only by who has read on from that very count: a task that was killed has
written all or nothing, and one that was taken for dead writes nothing any more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from sqlalchemy import Column, Connection, RowMapping, Select, delete, func, select, update

from evc.errors import Stopped
from evc.fleet.results import Result
from evc.store.arrays import kind_of, pack, register
from evc.store.dialects import insert_into
from evc.store.result_rollups import note_results, note_run
from evc.store.tables import builds, inference_results, inference_runs, node_samples, nodes

ONCE, CONTINUOUS = "once", "continuous"
STARTING, RUNNING, UNREACHABLE = "starting", "running", "unreachable"
SUCCEEDED, FAILED, TIMEOUT, CANCELLED, ENDED = "succeeded", "failed", "timeout", "cancelled", "ended"


@dataclass(frozen=True, slots=True)
class Run:
    """A row of ``inference_runs``: one container of one model on one node.

    :param run_id: of the DAG run; the container's id where the model runs continuously
    :param lines: how many are stored: the number of the next one
    :param cursor: where reading goes on, JSON
    """

    id: int
    run_id: str
    node_id: int
    model: str
    digest: str
    mode: str
    input: str | None
    container_id: str | None
    status: str
    exit_code: int | None
    oom_killed: bool | None
    message: str | None
    started_ts: int
    finished_ts: int | None
    lines: int
    cursor: str | None

    @property
    def deadline_ts(self) -> int | None:
        """When a single run's time is over; None where it has not begun, or runs continuously."""
        return json.loads(self.cursor).get("more", {}).get("deadline_ts") if self.cursor else None


def _run(row: RowMapping) -> Run:
    return Run(**{item.name: row[item.name] for item in fields(Run)})


# -- runs --------------------------------------------------------------------------------------------------------------


def open_run(connection: Connection, given: Mapping[str, Any]) -> Run:
    """Return the run of ``run_id`` on ``node_id``, made unless an earlier try has made it.

    :param given: ``run_id``, ``node_id``, ``model``, ``digest``, ``mode``, ``input``, ``container_id``, ``status``,
        ``started_ts``
    """
    statement = insert_into(connection, inference_runs).values({"lines": 0, **given})
    connection.execute(statement.on_conflict_do_nothing(index_elements=["run_id", "node_id"]))
    return _run(connection.execute(_select(given["run_id"], given["node_id"])).mappings().one())


def find_run(connection: Connection, run_id: str, node_id: int) -> Run | None:
    """Return a run."""
    row = connection.execute(_select(run_id, node_id)).mappings().first()
    return _run(row) if row else None


def _select(run_id: str, node_id: int) -> Select[Any]:
    return select(inference_runs).where(inference_runs.c.run_id == run_id, inference_runs.c.node_id == node_id)


def _by_id(connection: Connection, run: Run) -> Run:
    return _run(connection.execute(select(inference_runs).where(inference_runs.c.id == run.id)).mappings().one())


def reset_run(connection: Connection, run: Run, given: Mapping[str, Any]) -> Run:
    """Drop what a finished run has left, for another go of the same: its results are replaced, not doubled.

    :param given: as for :func:`open_run`
    """
    note_run(connection, run.id)
    connection.execute(delete(inference_results).where(inference_results.c.run_id == run.id))
    kept = ("id", "run_id", "node_id")
    values = {column.name: None for column in inference_runs.columns if column.name not in kept}
    connection.execute(
        update(inference_runs).where(inference_runs.c.id == run.id).values({**values, "lines": 0, **given})
    )
    return _by_id(connection, run)


def change_run(connection: Connection, run: Run, **values: Any) -> Run:
    """Set columns of a run that is not finished; one that is stays as it is. Returns it as it is now."""
    unfinished = inference_runs.c.finished_ts.is_(None)
    connection.execute(update(inference_runs).where(inference_runs.c.id == run.id, unfinished).values(values))
    return _by_id(connection, run)


def overrule_run(connection: Connection, run: Run, message: str, ts: int) -> Run:
    """Let a finished run say that another go of it failed before it could begin; returns it as it is now.

    The lines and the figures of the go before stay until one begins. One that someone else has changed since it was
    read stays as it is.

    :param message: why it could not begin
    :param ts: unix seconds
    """
    unchanged = (inference_runs.c.id == run.id) & (inference_runs.c.finished_ts == run.finished_ts)
    values = {"status": FAILED, "message": message, "finished_ts": ts, "exit_code": None, "oom_killed": None}
    connection.execute(update(inference_runs).where(unchanged).values(values))
    return _by_id(connection, run)


def reopen_run(connection: Connection, run: Run) -> Run:
    """Make a run whose container is still there unfinished, to read on from where its last lines were stored."""
    values = {"status": RUNNING, "message": None, "finished_ts": None}
    connection.execute(update(inference_runs).where(inference_runs.c.id == run.id).values(values))
    return _by_id(connection, run)


def unfinished_runs(connection: Connection, mode: str) -> list[Run]:
    """Return the runs of a mode that are not finished, by id."""
    query = select(inference_runs).where(inference_runs.c.mode == mode, inference_runs.c.finished_ts.is_(None))
    return [_run(row) for row in connection.execute(query.order_by(inference_runs.c.id)).mappings()]


# -- results -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chunk:
    """Lines of a run that follow on each other.

    :param results: the first has the number ``run.lines``
    :param cursor: where reading goes on after them
    :param columns: what else to set in ``inference_runs``
    """

    run: Run
    results: Sequence[Result]
    cursor: str
    columns: Mapping[str, Any]


def store_chunk(connection: Connection, chunk: Chunk) -> Run:
    """Store lines and where reading goes on; returns the run as it is after it.

    :raises Stopped: another task has read on from there; nothing was stored
    """
    run = replace(chunk.run, lines=chunk.run.lines + len(chunk.results), cursor=chunk.cursor)
    claim = (
        update(inference_runs)
        .where(inference_runs.c.id == run.id, inference_runs.c.lines == chunk.run.lines)
        .values({"lines": run.lines, "cursor": run.cursor, **chunk.columns})
    )
    if connection.execute(claim).rowcount != 1:
        raise Stopped(f"run {run.run_id}: its lines are read by another task, this one ends")
    if chunk.results:
        _insert(connection, chunk.run, chunk.results)
        note_results(connection, {result.ts for result in chunk.results})
    return run


_OWN = ("ts", "kind", "label", "score", "value", "latency_ms", "payload")  # the first fields of Result


def _insert(connection: Connection, run: Run, results: Sequence[Result]) -> None:
    of_run = (run.node_id, run.model, run.digest)
    if connection.dialect.name == "sqlite":
        rows = [(run.id, seq, *of_run, *result[:7]) for seq, result in enumerate(results, run.lines)]
        connection.exec_driver_sql(_SQLITE, rows)
        return
    driver: Any = connection.connection.driver_connection
    register(driver)
    columns = zip(_OWN_COLUMNS, zip(*results, strict=True), strict=False)
    arrays = (pack(kind_of(column), list(values)) for column, values in columns)
    connection.exec_driver_sql(_POSTGRESQL, (run.id, run.lines - 1, *of_run, *arrays))


_INTO = f"INSERT INTO inference_results (run_id, seq, node_id, model, digest, {', '.join(_OWN)})"
_OWN_COLUMNS: list[Column[Any]] = [inference_results.c[name] for name in _OWN]
_SQLITE = f"{_INTO} VALUES ({', '.join('?' * (5 + len(_OWN)))})"
_ARRAYS = ", ".join(f"%s::{kind_of(column).name}[]" for column in _OWN_COLUMNS)
_POSTGRESQL = (
    f"{_INTO} SELECT given.* FROM (SELECT %s::int, %s::bigint + number, %s::int, %s::text, %s::text,"  # noqa: S608
    f" {', '.join(_OWN[:-1])}, payload::json FROM unnest({_ARRAYS}) WITH ORDINALITY"
    f" AS told({', '.join(_OWN)}, number)) AS given"
)


# -- reading -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a node's samples say of a time.

    :param until_ts: of the last sample; None where there was none
    """

    temperature_max_celsius: float | None = None
    cpu_usage_sum: float = 0.0
    cpu_usage_count: int = 0
    throttled: int | None = None
    until_ts: int | None = None

    def columns(self) -> dict[str, float | int | None]:
        """Return what ``inference_runs`` keeps of it."""
        average = self.cpu_usage_sum / self.cpu_usage_count if self.cpu_usage_count else None
        return {
            "temperature_max_celsius": self.temperature_max_celsius,
            "cpu_usage_avg_ratio": average,
            "throttled": self.throttled,
        }

    def and_then(self, later: Conditions) -> Conditions:
        """Return both times as one."""

        def most(name: str) -> Any:
            known = [value for of in (self, later) if (value := getattr(of, name)) is not None]
            return max(known, default=None)

        return Conditions(
            most("temperature_max_celsius"),
            self.cpu_usage_sum + later.cpu_usage_sum,
            self.cpu_usage_count + later.cpu_usage_count,
            most("throttled"),
            most("until_ts"),
        )


def node_conditions(connection: Connection, node_id: int, begin_ts: int, end_ts: int) -> Conditions:
    """Return what the samples of a node from ``begin_ts`` to ``end_ts`` say, both included."""
    samples = node_samples.c
    query = select(
        func.max(samples.temperature_celsius),
        func.coalesce(func.sum(samples.cpu_usage_ratio), 0.0),
        func.count(samples.cpu_usage_ratio),
        func.max(samples.throttled),
        func.max(samples.ts),
    ).where(samples.node_id == node_id, samples.ts.between(begin_ts, end_ts))
    return Conditions(*connection.execute(query).one())


def result_origin(connection: Connection, run: int, seq: int) -> dict[str, Any] | None:
    """Return where a result came from: image, sources, node and container; None where there is no such result.

    :param run: ``run_id`` of the row in ``inference_results``
    :return: ``ts``, ``kind``, ``label``, ``model``, ``digest``, ``source_revision`` and ``build_run_id`` of the build
        that first made the digest (None: not built here), ``node``, ``container_id``, ``run_id`` of the DAG run
    """
    results = inference_results.c
    built = builds.alias().c
    first = (
        select(func.min(built.id))
        .where(built.digest == results.digest, built.model == results.model)
        .correlate(inference_results)
        .scalar_subquery()
    )
    query = (
        select(
            results.ts,
            results.kind,
            results.label,
            results.model,
            results.digest,
            builds.c.source_revision,
            builds.c.run_id.label("build_run_id"),
            nodes.c.name.label("node"),
            inference_runs.c.container_id,
            inference_runs.c.run_id,
        )
        .join(inference_runs, inference_runs.c.id == results.run_id)
        .join(nodes, nodes.c.id == results.node_id)
        .outerjoin(builds, builds.c.id == first)
        .where(results.run_id == run, results.seq == seq)
    )
    row = connection.execute(query).mappings().first()
    return dict(row) if row else None
