"""Runs of scenarios: which nodes they take, what their results say, what came of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from sqlalchemy import Connection, Engine

from evc.errors import InputError, ScenarioFailed
from evc.fleet.log import Log
from evc.fleet.nodes import Node, quote
from evc.fleet.scenarios import ENDING, EventRule, Scenario, choose_nodes, read_scenario
from evc.fleet.spans import seconds_of
from evc.fleet.thresholds import Summary, crossed
from evc.fleet.waves import SUCCEEDED
from evc.fleet.words import counted
from evc.hooks.inference import run_key
from evc.hooks.metrics import checked_engine
from evc.store.assignments import list_assignments
from evc.store.events import SEVERITIES, record_event
from evc.store.nodes import list_nodes
from evc.store.scenarios import (
    FAILED,
    ScenarioRun,
    begin_scenario,
    close_abandoned,
    end_scenario,
    find_scenario_run,
    is_good,
    node_outcomes,
    result_kinds,
    result_summaries,
)

INFER = "inference.infer"
"""Id of the task that runs the model, in the DAG of every scenario."""
EVENT = "threshold"
_NONE = Summary(0)
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Begun:
    """What a run is given.

    :param key: DAG and id of its run
    :param model: the file's, or the one that the run was given instead
    :param again: id of an earlier run of the DAG, of which only the nodes that did not get through are taken
    """

    key: str
    model: str
    names: tuple[str, ...]
    groups: tuple[str, ...]
    again: str | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """What the end of a run knows.

    :param key: DAG and id of the run
    :param digest: of the image that the run took; None: what is deployed
    :param ts: when the run was due: of the events, so that a retry makes the same ones
    :param broken: tasks that are not of one node and did not succeed
    """

    key: str
    digest: str | None
    ts: int
    broken: tuple[str, ...] = ()


class ScenarioHook:
    """Begins and ends a run of a scenario; one object serves one task.

    :param log: the task's own log
    """

    def __init__(self, log: Log) -> None:
        self.log = log

    @cached_property
    def engine(self) -> Engine:
        """The metrics database. :raises DatabaseError: away, or of another version"""
        return checked_engine()

    # -- begin -------------------------------------------------------------------------------------------------------

    def begin(self, file: str, content: str, given: Begun) -> list[str]:
        """Choose the nodes, store what the run takes, and return the nodes' names, sorted.

        A retry finds what the first try stored.

        :raises InputError: a name or group that no node has, labels that none bears, a model that is deployed on none
            where that counts, an earlier run that is not there, or nothing is left to do
        """
        scenario = read_scenario(file, content.encode())
        with self.engine.begin() as connection:
            known = find_scenario_run(connection, given.key)
            if known is None:
                values = {
                    "run_id": given.key,
                    "scenario": name_of(file),
                    "content": content,
                    "model": given.model,
                    "nodes": self._choose(connection, scenario, given),
                }
                close_abandoned(connection, name_of(file), "its run was ended before its finish", int(time.time()))
                known = begin_scenario(connection, values, int(time.time()))
        self.log.info("%s: %s", counted(len(known.nodes), "node"), ", ".join(known.nodes))
        return known.nodes

    def _choose(self, connection: Connection, scenario: Scenario, given: Begun) -> list[str]:
        nodes = list_nodes(connection)
        if given.again:
            left = self._left(connection, given)
            names = [node.name for node in nodes if node.name in left]
            if not names:
                wrong = f"those that did not get through {quote(given.again)} are removed"
                raise InputError("again", wrong, "a run with nodes that are still registered")
            return sorted(names)
        deployed = {found.node_id for found in list_assignments(connection) if found.model == given.model}
        chosen = choose_nodes(scenario, nodes, given.model, given.names, given.groups, deployed)
        return sorted(node.name for node in chosen)

    def _left(self, connection: Connection, given: Begun) -> set[str]:
        dag_id = given.key.partition(" ")[0]
        key = f"{dag_id} {given.again}"
        # one that its finish did not close was ended by hand: only one run of a scenario goes on at a time
        before = find_scenario_run(connection, key)
        if before is None:
            raise InputError(
                "again", f"{quote(given.again)} is no earlier run of {dag_id}", "the id of a run whose select succeeded"
            )
        failed = set(self._failed(connection, before))
        if not _steps(before) and before.status != SUCCEEDED:
            failed = set(before.nodes)  # nothing tells how far a node came
        if not failed:
            raise InputError("again", f"every node got through {quote(given.again)}", "a run with nodes that did not")
        return failed

    # -- end ---------------------------------------------------------------------------------------------------------

    def finish(self, ending: Ending) -> dict[str, int]:
        """Sum up, raise events, close the run: by the file as it was when the run began.

        :raises ScenarioFailed: a node or another step did not get through
        """
        with self.engine.begin() as connection:
            run = find_scenario_run(connection, ending.key)
            if run is None:
                raise ScenarioFailed("nothing was begun: the log of select says why")
            scenario = scenario_of(run)
            nodes = [node for node in list_nodes(connection) if node.name in run.nodes]
            events = self._judge(connection, scenario, run, nodes, ending)
            failed = self._failed(connection, run)
            counts = {"good": len(run.nodes) - len(failed), "failed": len(failed), "events": events}
            all_, events_ = counted(len(run.nodes), "node"), counted(events, "event")
            message = f"{counts['good']} of {all_} got through, {events_}{_some(failed)}"
            if ending.broken:
                message += f"; did not succeed: {', '.join(ending.broken)}"
            status = FAILED if failed or ending.broken else SUCCEEDED
            end_scenario(connection, ending.key, status, message, ending.digest, int(time.time()))
        self._sum_up(scenario, run.model, nodes, ending)
        for name, why in failed.items():
            self.log.warning("%s: %s", name, why)
        if status == FAILED:
            again = quote(ending.key.partition(" ")[2])
            more = f'; the nodes that did not, once more: conf {{"again": {again}}}' if failed else ""
            raise ScenarioFailed(f"{message}{more}")
        self.log.info("%s", message)
        return counts

    def _sum_up(self, scenario: Scenario, model: str, nodes: list[Node], ending: Ending) -> None:
        if not scenario.inference:
            return
        with self.engine.connect() as connection:
            key = inference_key(ending.key)
            for kind in scenario.results or result_kinds(connection, key):
                found = result_summaries(connection, model, kind, run_id=key)
                for node in nodes:
                    summary = found.get(node.id or 0, _NONE)
                    value = "" if summary.mean is None else f", mean {summary.mean:.4g}, last {summary.last:.4g}"
                    self.log.info("%s: %s: %d lines%s", node.name, kind, summary.count, value)

    def _failed(self, connection: Connection, run: ScenarioRun) -> dict[str, str]:
        """Return by name, for each node that did not get through, how far it came."""
        steps = _steps(run)
        outcomes = node_outcomes(connection, run.run_id, inference_key(run.run_id))
        return {
            name: ", ".join(f"{step}: {outcomes.get(name, {}).get(step, 'not begun')}" for step in steps)
            for name in run.nodes
            if not is_good(outcomes.get(name, {}), steps)
        }

    # -- results -----------------------------------------------------------------------------------------------------

    def _judge(
        self, connection: Connection, scenario: Scenario, run: ScenarioRun, nodes: list[Node], ending: Ending
    ) -> int:
        told: dict[int, list[tuple[str, str]]] = {}
        names = {node.id: node.name for node in nodes if node.id is not None}
        outcomes = node_outcomes(connection, run.run_id, inference_key(run.run_id))
        # where the model did not run, this run says nothing of a node, not even that there was nothing to see
        ran = {it: name for it, name in names.items() if is_good(outcomes.get(name, {}), ["inference"])}
        for rule in scenario.events:
            judged = names if rule.window else ran
            for node_id, line in self._lines(connection, run.model, rule, judged, ending):
                told.setdefault(node_id, []).append((rule.severity, line))
        for node_id, lines in told.items():
            severity = max((severity for severity, _ in lines), key=SEVERITIES.index)
            message = "; ".join(line for _, line in lines)
            (self.log.info if severity == "info" else self.log.warning)("%s: %s", names[node_id], message)
            ts = ending.ts
            # at a run's first end what is there is of another scenario, due at the same time; later it may be its own
            while not record_event(connection, node_id, EVENT, severity, message, ts) and run.finished_ts is None:
                ts += 1
        return len(told)

    def _lines(
        self, connection: Connection, model: str, rule: EventRule, names: Mapping[int, str], ending: Ending
    ) -> Iterable[tuple[int, str]]:
        def summaries(begin_ts: int, end_ts: int) -> dict[int, Summary]:
            between = None if rule.window is None else (begin_ts, end_ts)
            run_id = inference_key(ending.key) if rule.window is None else None
            return result_summaries(
                connection, model, rule.kind, label=rule.label, run_id=run_id, between=between, node_ids=list(names)
            )

        now_ts, length_s = int(time.time()) + 1, seconds_of(rule.window) if rule.window else 0
        now = summaries(now_ts - length_s, now_ts)
        before = summaries(now_ts - 2 * length_s, now_ts - length_s) if rule.falls_by is not None else {}
        for node_id in sorted(names):
            # no line at all is a count of 0; of values it says nothing
            line = crossed(rule, now.get(node_id, _NONE), before.get(node_id, _NONE))
            if line:
                yield node_id, line


def still_registered(names: Iterable[str], log: Log) -> list[str]:
    """Return which of a run's nodes are still there: one that was removed meanwhile is not the end for the others.

    :raises InputError: none is
    """
    names = sorted(names)
    with checked_engine().connect() as connection:
        known = {node.name for node in list_nodes(connection)}
    if gone := [name for name in names if name not in known]:
        log.warning("removed since the run began: %s", ", ".join(gone))
    if len(gone) == len(names):
        raise InputError("nodes", "none of the run's is registered any more", "names of registered nodes")
    return [name for name in names if name in known]


def _steps(run: ScenarioRun) -> list[str]:
    """Return the steps of a run that leave a row for each node."""
    scenario = scenario_of(run)
    return [step for step in ("rollout", "inference") if getattr(scenario, step)]


def _some(failed: Mapping[str, str]) -> str:
    """Return of the first nodes that did not get through how far they came; the log has all."""
    said = "".join(f"; {name}: {why}" for name, why in list(failed.items())[:_NAMED])
    return f"{said}; and {len(failed) - _NAMED} more" if len(failed) > _NAMED else said


def content_of(key: str) -> str | None:
    """Return the file of a run as it was when the run began; None: it has not. :param key: DAG and id of the run"""
    with checked_engine().connect() as connection:
        run = find_scenario_run(connection, key)
    return run.content if run else None


def scenario_of(run: ScenarioRun) -> Scenario:
    """Return what a run does: its file as it was when it began."""
    return read_scenario(f"{run.scenario}{ENDING}", run.content.encode())


def inference_key(key: str) -> str:
    """Return ``inference_runs.run_id`` of a scenario's run, from DAG and id of that."""
    dag_id, _, run_id = key.partition(" ")
    return run_key(dag_id, INFER, run_id)


def name_of(file: str) -> str:
    """Return the name of a scenario."""
    return file.rpartition(".")[0]
