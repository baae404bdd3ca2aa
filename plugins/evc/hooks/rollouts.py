"""Roll-outs: what deploy_model plans and decides. What happens on a node is in :mod:`evc.hooks.deployment`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

from pydantic import ValidationError
from sqlalchemy import Connection, Engine

from evc.building.source import known_models, read_source
from evc.errors import InputError, RolloutFailed
from evc.fleet.deadlines import parse_deadline
from evc.fleet.images import check_digest, check_tag
from evc.fleet.log import Log
from evc.fleet.models import Model, check_model_name
from evc.fleet.nodes import Node, quote, select
from evc.fleet.waves import FAILED, PENDING, SUCCEEDED, Step, Thresholds, cut, judge, parse_waves
from evc.fleet.words import counted
from evc.hooks.metrics import checked_engine
from evc.hooks.registry import RegistryHook
from evc.hooks.settings import models_folder, settings
from evc.store.nodes import list_nodes, node_rows
from evc.store.rollout_nodes import RolloutNode, list_rollout_nodes
from evc.store.rollouts import (
    ABORT,
    PAUSE,
    ROLLBACK,
    NewRollout,
    Rollout,
    abandon_rollout,
    abort_rollout,
    begin_rollback,
    control_rollout,
    create_rollout,
    expire_pending,
    fail_unfinished,
    find_rollout,
    finish_rollout,
    recorded_spec,
    unfinished_rollouts,
)

MAX_NODES = 1024  # Airflow's max_map_length: one task instance for each
DAG_ID = "deploy_model"
HOW_TO_END = "evc rollouts abort {id}, or control_rollout with action abort"

Ended = Callable[[str], bool]
"""Whether the DAG run of that id is over, or was deleted."""


@dataclass(frozen=True, slots=True)
class Busy:
    """Another roll-out holds the lock of the model."""

    message: str


@dataclass(frozen=True, slots=True)
class Gate:
    """What comes after a wave.

    :param nodes: names of the next wave's nodes; None: it is not decided yet; empty: that was the last one
    :param message: why, on one line
    """

    nodes: list[str] | None
    message: str


class RolloutHook:
    """Plans roll-outs, judges their waves and ends them; one object serves one task.

    :param log: the task's own log
    """

    def __init__(self, log: Log) -> None:
        self.log = log
        self.settings = settings()

    @cached_property
    def engine(self) -> Engine:
        """The metrics database. :raises DatabaseError: away, or of another version"""
        return checked_engine()

    # -- plan --------------------------------------------------------------------------------------------------------

    def plan(self, run_id: str, given: Mapping[str, Any], ended: Ended) -> list[str] | Busy:
        """Check everything, store the roll-out and return the nodes of its first wave.

        A retry of the same run finds what the first try stored, and changes nothing.

        :param given: the params of deploy_model
        :raises InputError: anything that makes no sense; nothing was stored
        :raises RegistryError: the registry does not have the image, or does not answer
        """
        known = self._find(run_id)
        if known:
            if known.is_finished:
                raise InputError("run", f"roll-out {known.id} of this run has ended", f"a new run of {DAG_ID}")
            return self._wave(known, 0)
        now_ts = int(time.time())
        ends = parse_waves(given["waves"])
        check_thresholds(given["success_threshold"], given["error_threshold"])
        deadline_ts = parse_deadline(given["deadline"], now_ts)
        model = check_model_name("model", given["model"])
        nodes = self._select(given["nodes"] or [], given["groups"] or [])
        waves = cut(ends, [node.id for node in nodes if node.id is not None])
        self._check_known(model)
        tag, digest, layers = self._resolve(model, given["tag"], given["digest"])
        new = NewRollout(
            run_id=run_id,
            model=model,
            repository=model,
            digest=digest,
            tag=tag,
            spec=self._spec(model, digest),
            layers=layers,
            waves=given["waves"],
            success_threshold=float(given["success_threshold"]),
            error_threshold=float(given["error_threshold"]),
            deadline_ts=deadline_ts,
        )
        return self._create(new, waves, ended)

    def _create(self, new: NewRollout, waves: Sequence[Sequence[int]], ended: Ended) -> list[str] | Busy:
        ts = int(time.time())
        with self.engine.begin() as connection:
            made, is_own = create_rollout(connection, new, waves, ts)
        if not is_own and ended(made.run_id):
            self.log.warning("roll-out %d: its run %s is over and did not close it: closed now", made.id, made.run_id)
            with self.engine.begin() as connection:
                abandon_rollout(connection, made.id, ts)
                made, is_own = create_rollout(connection, new, waves, ts)
        if not is_own:
            return Busy(
                f"{quote(made.model)} is being rolled out: {made}, run {made.run_id}; "
                f"wait for its end (if_busy: wait), or end it: {HOW_TO_END.format(id=made.id)}"
            )
        with self.engine.connect() as connection:
            nodes = list_rollout_nodes(connection, made.id)
        self.log.info("%s: %s", made, made.digest)
        for number in sorted({node.wave for node in nodes}):
            names = [node.name for node in nodes if node.wave == number]
            self.log.info("wave %d: %s: %s", number + 1, counted(len(names), "node"), _some(names))
        return self._wave(made, 0)

    def _select(self, names: Sequence[str], groups: Sequence[str]) -> list[Node]:
        """Return the chosen nodes by name, those that do not answer at the moment last: a canary should."""
        with self.engine.connect() as connection:
            chosen = select(list_nodes(connection), names, groups)
            rows = {row["name"]: row for row in node_rows(connection)}
        down = {name for name, row in rows.items() if row["status"] == "down"}
        if not chosen:
            raise InputError("nodes", "no node is registered", "nodes that register_node or import_inventory made")
        if len(chosen) > MAX_NODES:
            raise InputError("nodes", f"{len(chosen)} were chosen", f"at most {MAX_NODES} in a roll-out: use groups")
        bare = sorted(node.name for node in chosen if not rows[node.name]["engine_version"])
        if bare:
            self.log.warning("no Docker Engine was seen at registration on %s", _some(bare))
        return sorted(chosen, key=lambda node: (node.name in down, node.name))

    def _check_known(self, model: str) -> None:
        folder = models_folder(self.settings)
        with self.engine.connect() as connection:
            if recorded_spec(connection, model, None) is not None:
                return
        known = known_models(folder) if folder.is_dir() else []
        if model not in known:
            have = f"one of {', '.join(known)}" if known else f"none yet: {folder} holds no folder with model.yaml"
            raise InputError("model", f"{quote(model)} is unknown", have)

    def _resolve(
        self, model: str, tag: str | None, digest: str | None
    ) -> tuple[str | None, str, dict[str, list[list[Any]]]]:
        """Ask the registry once: what is deployed from here on is a digest, wherever the tag goes meanwhile."""
        if not tag and not digest:
            raise InputError("tag", "neither tag nor digest was given", "one of both")
        if tag:
            check_tag("tag", tag)
        if digest:
            check_digest("digest", digest)
        with RegistryHook().client() as registry:
            found = registry.find(model, str(tag or digest))
            if digest and digest != found:
                raise InputError("digest", f"{digest} is not what tag {quote(tag)} leads to: {found}", "one of both")
            layers = registry.layers(model, found)
        if tag:
            self.log.info("%s:%s is %s", model, tag, found)
        plain = {name: [[it.digest, it.size_bytes, it.diff_id] for it in found_] for name, found_ in layers.items()}
        return tag or None, found, plain

    def _spec(self, model: str, digest: str) -> Mapping[str, Any]:
        """Return model.yaml as it was when the image was built; as it is now where nobody recorded the build."""
        with self.engine.connect() as connection:
            recorded = recorded_spec(connection, model, digest)
        if recorded is not None:
            return recorded
        self.log.warning("no build of %s is recorded: its containers are made by today's model.yaml", digest)
        return read_source(models_folder(self.settings), model).model.model_dump(mode="json")

    # -- gates -------------------------------------------------------------------------------------------------------

    def judge(self, run_id: str, wave: int) -> Gate:
        """Judge a wave whose tasks are over.

        :param wave: from 0
        :raises RolloutFailed: the roll-out ends here; where the error threshold is crossed, it goes back
        """
        now_ts = int(time.time())
        with self.engine.begin() as connection:
            rollout = self._require(connection, run_id)
            if rollout.status == SUCCEEDED:  # an earlier try of the last gate closed it, and was killed then
                return Gate([], f"{rollout} has succeeded")
            expire_pending(connection, now_ts)
            fail_unfinished(connection, rollout.id, now_ts, wave=wave)
            nodes = list_rollout_nodes(connection, rollout.id)
        self._refuse_ended(rollout)
        thresholds = Thresholds(rollout.success_threshold, rollout.error_threshold)
        statuses = [node.status for node in nodes if node.wave == wave]
        verdict = judge(statuses, thresholds, is_late=now_ts >= rollout.deadline_ts)
        message = f"wave {wave + 1}: {verdict.message}"
        if verdict.step is Step.GO_BACK:
            with self.engine.begin() as connection:
                begin_rollback(connection, rollout.id, message, now_ts)
            raise RolloutFailed(message)
        if verdict.step is Step.GIVE_UP:
            raise RolloutFailed(message)
        if verdict.step is Step.WAIT:
            return Gate(None, message)
        if rollout.command == PAUSE:
            return Gate(None, f"{message}; {rollout} pauses: evc rollouts resume {rollout.id}")
        return Gate([node.name for node in nodes if node.wave == wave + 1], message)

    def reject(self, run_id: str, wave: int, who: str) -> NoReturn:
        """End a roll-out whose next wave was not approved.

        :param wave: the one that was not approved, from 0
        :raises RolloutFailed: always
        """
        message = f"wave {wave + 1} was not approved by {who}"
        with self.engine.begin() as connection:
            abort_rollout(connection, self._require(connection, run_id).id, message, int(time.time()))
        raise RolloutFailed(message)

    # -- end ---------------------------------------------------------------------------------------------------------

    def to_restore(self, run_id: str) -> list[str]:
        """Return the nodes on which something has to go back; none where the roll-out does not go back.

        One that failed is among them: its task may have been killed half-way. So may a gate have been.
        """
        rollout = self._find(run_id)
        if rollout is None or rollout.is_finished:
            return []
        thresholds = Thresholds(rollout.success_threshold, rollout.error_threshold)
        with self.engine.begin() as connection:
            nodes = list_rollout_nodes(connection, rollout.id)
            for wave in sorted({node.wave for node in nodes}):
                verdict = judge([node.status for node in nodes if node.wave == wave], thresholds, is_late=False)
                if verdict.step is Step.GO_BACK and rollout.command != ROLLBACK:
                    begin_rollback(connection, rollout.id, f"wave {wave + 1}: {verdict.message}", int(time.time()))
                    nodes = list_rollout_nodes(connection, rollout.id)  # whose tasks were killed has failed now
                    break
            rollout = self._require(connection, run_id)
        if rollout.command != ROLLBACK:
            return []
        return [node.name for node in nodes if node.status in (SUCCEEDED, "failed") and node.started_ts is not None]

    def finish(self, run_id: str) -> str:
        """Close the roll-out of a run, whatever became of it; returns how it went, on one line.

        :raises RolloutFailed: it did not reach its goal
        """
        ts = int(time.time())
        with self.engine.begin() as connection:
            rollout = find_rollout(connection, run_id=run_id)
            if rollout is None:
                raise RolloutFailed("nothing was rolled out: the log of plan says why, or of what failed before it")
            if not rollout.is_finished:
                status, why = self._outcome(connection, rollout)
                if status == "rolled_back":
                    abandon_rollout(connection, rollout.id, ts, why)
                else:
                    finish_rollout(connection, rollout.id, status, why, ts)
            rollout = self._require(connection, run_id)
            nodes = list_rollout_nodes(connection, rollout.id)
        for node in nodes:
            tell = self.log.info if node.status == SUCCEEDED else self.log.warning
            tell("%s: %s%s", node.name, node.status, f": {node.message}" if node.message else "")
        counts = Counter(node.status for node in nodes)
        told = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        line = f"{rollout}: {rollout.status}: {told}"
        if rollout.status != "succeeded":
            raise RolloutFailed(f"{line}; {rollout.message}{_first_reason(nodes)}")
        return line

    def _outcome(self, connection: Connection, rollout: Rollout) -> tuple[str, str]:
        if rollout.command == ABORT:
            return "aborted", rollout.message or "aborted"
        if rollout.command == ROLLBACK:
            return "rolled_back", rollout.message or "the error threshold was crossed"
        thresholds = Thresholds(rollout.success_threshold, rollout.error_threshold)
        nodes = list_rollout_nodes(connection, rollout.id)
        is_late = int(time.time()) >= rollout.deadline_ts
        for wave in sorted({node.wave for node in nodes}):
            verdict = judge([node.status for node in nodes if node.wave == wave], thresholds, is_late=is_late)
            if verdict.step is not Step.GO_ON:
                return "failed", f"wave {wave + 1}: {verdict.message}"
        return "succeeded", "every wave reached its success threshold"

    # -- what a person asks for ------------------------------------------------------------------------------------

    def control(self, rollout_id: int | None, model: str | None, action: str) -> str:
        """Pause, resume or abort the roll-out of that id, or the one that goes on for a model.

        :param action: ``pause``, ``resume`` or ``abort``
        :raises InputError: there is none, or it is over
        """
        with self.engine.begin() as connection:
            line = control_rollout(connection, rollout_id, model, action, int(time.time()))
        self.log.info("%s", line)
        return line

    def close_abandoned(self, ended: Ended) -> list[str]:
        """Close the roll-outs whose DAG runs are over and did not; returns a line for each."""
        with self.engine.connect() as connection:
            unfinished = unfinished_rollouts(connection)
        lines = []
        for rollout in unfinished:
            if ended(rollout.run_id):
                with self.engine.begin() as connection:
                    if abandon_rollout(connection, rollout.id, int(time.time())):
                        lines.append(f"{rollout}: its run {rollout.run_id} is over and did not close it")
        for line in lines:
            self.log.warning("%s: closed", line)
        return lines

    # -- look-ups ----------------------------------------------------------------------------------------------------

    def _find(self, run_id: str) -> Rollout | None:
        with self.engine.connect() as connection:
            return find_rollout(connection, run_id=run_id)

    def _require(self, connection: Connection, run_id: str) -> Rollout:
        rollout = find_rollout(connection, run_id=run_id)
        if rollout is None:
            raise RolloutFailed(f"run {run_id} has no roll-out: its plan did not make one")
        return rollout

    def _refuse_ended(self, rollout: Rollout) -> None:
        if rollout.is_finished or rollout.command == ABORT:
            raise RolloutFailed(f"{rollout} has ended: {rollout.message or rollout.status}")

    def _wave(self, rollout: Rollout, wave: int) -> list[str]:
        with self.engine.connect() as connection:
            return [node.name for node in list_rollout_nodes(connection, rollout.id, wave)]


def check_thresholds(success: object, error: object) -> None:
    """Refuse thresholds that make no sense.

    :raises InputError: naming the one
    """
    for name, value, least in (("success_threshold", success, 1), ("error_threshold", error, 0)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= 100:
            raise InputError(name, f"{quote(value)} is no percentage that makes sense", f"a number from {least} to 100")


def model_of(spec: Mapping[str, Any], where: str) -> Model:
    """Return the model that a recorded spec describes.

    :raises InputError: another version of EVC wrote it, and this one does not understand it
    """
    try:
        return Model.model_validate(spec)
    except ValidationError as error:
        first = error.errors()[0]
        wrong = f"its recorded model.yaml does not fit this version: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise InputError(where, wrong, "build it anew") from None


def _first_reason(nodes: Sequence[RolloutNode]) -> str:
    bad = [node for node in nodes if node.status in FAILED | {PENDING, "expired"} and node.message]
    return f"; {bad[0].message}" if bad else ""


def _some(names: Sequence[str], shown: int = 20) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
