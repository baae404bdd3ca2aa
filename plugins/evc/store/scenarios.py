"""Runs of scenarios: what they took, what came of it, what their results say."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, case, func, select, update

from evc.fleet.thresholds import Summary
from evc.fleet.waves import SUCCEEDED
from evc.store.dialects import insert_into
from evc.store.tables import inference_results, inference_runs, nodes, rollout_nodes, rollouts, scenario_runs

RUNNING, FAILED = "running", "failed"


@dataclass(frozen=True, slots=True)
class ScenarioRun:
    """A row of ``scenario_runs``.

    :param run_id: DAG and id of its run
    :param content: the file as it was
    :param nodes: names that it took
    """

    id: int
    run_id: str
    scenario: str
    content: str
    model: str
    nodes: list[str]
    digest: str | None
    status: str
    message: str | None
    started_ts: int
    finished_ts: int | None


def begin_scenario(connection: Connection, given: Mapping[str, Any], ts: int) -> ScenarioRun:
    """Return the run of ``run_id``, made unless an earlier try has made it.

    :param given: ``run_id``, ``scenario``, ``content``, ``model``, ``nodes``
    """
    values = {**given, "status": RUNNING, "started_ts": ts}
    statement = insert_into(connection, scenario_runs).values(values)
    connection.execute(statement.on_conflict_do_nothing(index_elements=["run_id"]))
    return _run(connection.execute(_select(given["run_id"])).mappings().one())


def find_scenario_run(connection: Connection, run_id: str) -> ScenarioRun | None:
    """Return a run."""
    row = connection.execute(_select(run_id)).mappings().first()
    return _run(row) if row else None


def _select(run_id: str) -> Select[Any]:
    return select(scenario_runs).where(scenario_runs.c.run_id == run_id)


def _run(row: RowMapping) -> ScenarioRun:
    return ScenarioRun(**{item.name: row[item.name] for item in fields(ScenarioRun)})


def end_scenario(connection: Connection, run_id: str, status: str, message: str, digest: str | None, ts: int) -> None:
    """Close a run; one that was cleared and ran anew is closed anew."""
    values = {"status": status, "message": message, "digest": digest, "finished_ts": ts}
    connection.execute(update(scenario_runs).where(scenario_runs.c.run_id == run_id).values(values))


def close_abandoned(connection: Connection, scenario: str, message: str, ts: int) -> None:
    """Close the runs of a scenario that nobody will: only one goes on at a time, and another begins."""
    abandoned = (scenario_runs.c.scenario == scenario) & scenario_runs.c.finished_ts.is_(None)
    values = {"status": FAILED, "message": message, "finished_ts": ts}
    connection.execute(update(scenario_runs).where(abandoned).values(values))


def node_outcomes(connection: Connection, rollout_key: str, inference_key: str) -> dict[str, dict[str, str]]:
    """Return by the name of a node what became of it: of ``rollout`` and ``inference`` those that it took part in.

    :param rollout_key: ``rollouts.run_id``
    :param inference_key: ``inference_runs.run_id``
    """
    found: dict[str, dict[str, str]] = {}
    rolled = (
        select(nodes.c.name, rollout_nodes.c.status)
        .join(rollout_nodes, rollout_nodes.c.node_id == nodes.c.id)
        .join(rollouts, rollouts.c.id == rollout_nodes.c.rollout_id)
        .where(rollouts.c.run_id == rollout_key)
    )
    without_a_line = (inference_runs.c.status == "timeout") & (inference_runs.c.lines == 0)
    ran = (
        select(nodes.c.name, case((without_a_line, "timeout without a line"), else_=inference_runs.c.status))
        .join(inference_runs, inference_runs.c.node_id == nodes.c.id)
        .where(inference_runs.c.run_id == inference_key)
    )
    for step, query in (("rollout", rolled), ("inference", ran)):
        for name, status in connection.execute(query):
            found.setdefault(name, {})[step] = status
    return found


def is_good(outcome: Mapping[str, str], steps: Collection[str]) -> bool:
    """Whether a node did all ``steps``; what was stopped at its time-out has done its work as far as it came.

    As for the node's task: without a line it has done nothing.
    """
    return all(outcome.get(step) in {SUCCEEDED, "timeout"} for step in steps)


def result_kinds(connection: Connection, run_id: str) -> list[str]:
    """Return the kinds of the result lines of a run, sorted.

    :param run_id: ``inference_runs.run_id``
    """
    runs = select(inference_runs.c.id).where(inference_runs.c.run_id == run_id)
    query = select(inference_results.c.kind).where(inference_results.c.run_id.in_(runs)).distinct()
    return sorted(connection.execute(query).scalars())


def result_summaries(
    connection: Connection,
    model: str,
    kind: str,
    *,
    label: str | None = None,
    run_id: str | None = None,
    between: tuple[int, int] | None = None,
    node_ids: Sequence[int] = (),
) -> dict[int, Summary]:
    """Return by node what the result lines of a kind say; nodes without such lines are left out.

    :param run_id: ``inference_runs.run_id``: only the lines of these
    :param between: unix seconds, the first included, the second not
    :param node_ids: only these; empty: all
    """
    lines = inference_results.c
    where: list[ColumnElement[bool]] = [lines.model == model, lines.kind == kind]
    if label is not None:
        where.append(lines.label == label)
    if run_id is not None:
        where.append(lines.run_id.in_(select(inference_runs.c.id).where(inference_runs.c.run_id == run_id)))
    if between is not None:
        where += [lines.ts >= between[0], lines.ts < between[1]]
    if node_ids:
        where.append(lines.node_id.in_(node_ids))
    value = lines.value
    latest = func.row_number().over(
        partition_by=lines.node_id, order_by=[value.is_(None), lines.ts.desc(), lines.run_id.desc(), lines.seq.desc()]
    )
    ranked = select(lines.node_id, value, latest.label("rank")).where(*where).subquery().c
    query = select(
        ranked.node_id,
        func.count(),
        func.avg(ranked.value),
        func.min(ranked.value),
        func.max(ranked.value),
        func.max(ranked.value).filter(ranked.rank == 1),
    ).group_by(ranked.node_id)
    return {node_id: Summary(*numbers) for node_id, *numbers in connection.execute(query)}
