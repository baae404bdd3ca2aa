"""One node of a roll-out: bring it to the digest, or back to what it had, and keep what becomes of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

from evc.engine.client import connect
from evc.errors import (
    ConnectionCut,
    ContainerFailed,
    DatabaseError,
    EvcError,
    HostKeyChanged,
    InputError,
    LoginRefused,
    NodeRefused,
    NodeTimeout,
    NodeUnreachable,
    RolloutFailed,
    Stopped,
)
from evc.fleet.images import Image
from evc.fleet.log import Log
from evc.fleet.nodes import Node
from evc.fleet.preflight import architecture_of
from evc.fleet.progress import Layer, Snapshot
from evc.fleet.waves import ABORTED, EXPIRED, PENDING, ROLLED_BACK, SUCCEEDED, Thresholds, is_crossed
from evc.hooks.metrics import checked_engine
from evc.hooks.nodes import NodesHook
from evc.hooks.registry import RegistryHook
from evc.hooks.rollouts import model_of
from evc.hooks.settings import settings
from evc.rollout.node import Deployed, Steps, Target, deploy_node, withdraw
from evc.ssh.pool import Pool
from evc.store.assignments import assign, is_being_repaired, record_met
from evc.store.nodes import find_node, pin_host_key
from evc.store.rollout_nodes import (
    RolloutNode,
    begin_node,
    end_node,
    find_rollout_node,
    list_rollout_nodes,
    report_node,
)
from evc.store.rollouts import PAUSE, ROLLBACK, Rollout, find_rollout

NO_ANSWER = (NodeUnreachable, NodeTimeout, ConnectionCut)
"""No verdict on the node: it may answer later."""
FINAL = (NodeRefused, ContainerFailed, LoginRefused, HostKeyChanged, InputError)
"""A second try would end the same way."""
REFUSALS = (NodeRefused, LoginRefused, HostKeyChanged, InputError)
"""Nothing was changed on the node."""
_SOON_S = 15
TURN_TIMEOUT_S = 6 * 3600.0
"""A node that takes longer gives its slot back: neither a slow nor a malicious one may keep all others waiting."""
_GONE = "was removed from the fleet"

Done = TypeVar("Done")


class Kind(StrEnum):
    """How a task's turn ended."""

    DONE = "done"
    SKIP = "skip"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Turn:
    """How a task's turn ended, where it did not fail.

    :param message: on one line
    :param wait_s: until the next look, where it has to wait
    """

    kind: Kind
    message: str
    wait_s: int = 0


class DeploymentHook:
    """Works on one node; one object serves one task.

    :param log: the task's own log
    """

    def __init__(self, log: Log) -> None:
        self.log = log
        self.settings = settings()
        self.nodes_hook = NodesHook()
        self._work: asyncio.Task[Any] | None = None

    @cached_property
    def engine(self) -> Engine:
        """The metrics database. :raises DatabaseError: away, or of another version"""
        return checked_engine()

    def stop(self) -> None:
        """End the work under way: someone cancelled the task. A pull that has begun goes on in the node's engine."""
        if self._work:
            self._work.get_loop().call_soon_threadsafe(self._work.cancel)

    # -- forward -----------------------------------------------------------------------------------------------------

    def deploy(self, run_id: str, name: str, *, is_last_try: bool) -> Turn:
        """Bring a node to the digest of a run's roll-out.

        Every step finds what an earlier try has done, so a killed task is simply tried again.

        :param is_last_try: there is no further one: what would pass by itself counts as failed now
        :raises EvcError: the node refused, failed, or may do better at the next try
        """
        rollout, row = self._look_up(run_id, name)
        turn = self._not_its_turn(rollout, row)
        if turn:
            return turn
        ts = int(time.time())
        with self.engine.begin() as connection:
            begun = begin_node(connection, rollout.id, row.node_id, ts)
        if not begun:
            return Turn(Kind.WAIT, f"{name}: {rollout} has just been changed: one more look", _SOON_S)
        if self._is_being_repaired(rollout, row):
            with self.engine.begin() as connection:
                end_node(connection, rollout.id, row.node_id, "waiting", ts)
            return Turn(Kind.WAIT, f"{name}: reconcile_fleet is at work there: one more look", _SOON_S)
        try:
            model = model_of(rollout.spec, "rollouts.spec")
            target = Target(
                model,
                Image(rollout.repository, rollout.digest, rollout.tag),
                RegistryHook().pull_address,
                str(rollout.id),
                layers_for(rollout.layers, row.arch),
                previous_digest=row.previous_digest,
            )
            node, nodes = self._node(name)
            recorder = _Recorder(self.engine, self.log, rollout.id, row)
            deployed = self._run(self._bring(node, nodes, target, recorder))
        except EvcError as error:
            return self._failed(rollout, row, error, is_last_try=is_last_try)
        self._keep(rollout, row, deployed)
        how = "has it now" if deployed.changed else "had it already"
        return Turn(Kind.DONE, f"{name}: {how}: {rollout.digest}, container {deployed.container_id[:12]}")

    def _not_its_turn(self, rollout: Rollout, row: RolloutNode) -> Turn | None:
        if row.status == SUCCEEDED:
            return Turn(Kind.DONE, f"{row.name}: an earlier try of this task brought it")
        if rollout.is_finished or rollout.command not in (None, PAUSE):
            why = rollout.message or rollout.status
            return Turn(Kind.SKIP, f"{row.name}: {rollout} has ended: {why}; trigger deploy_model anew")
        if self._is_gone(row):
            with self.engine.begin() as connection:
                end_node(connection, rollout.id, row.node_id, EXPIRED, int(time.time()), message=_GONE)
            return Turn(Kind.SKIP, f"{row.name}: {_GONE}")
        with self.engine.connect() as connection:
            statuses = [node.status for node in list_rollout_nodes(connection, rollout.id, row.wave)]
        if is_crossed(statuses, Thresholds(rollout.success_threshold, rollout.error_threshold)):
            message = "the wave crossed its error threshold before its turn"
            with self.engine.begin() as connection:
                end_node(connection, rollout.id, row.node_id, ABORTED, int(time.time()), message=message)
            return Turn(Kind.SKIP, f"{row.name}: {message}")
        if rollout.command == PAUSE:
            # a look costs a quarter of a second of processor time: the more wait, the rarer each looks
            wait_s = min(max(_SOON_S, statuses.count("waiting")), 600)
            message = f"{row.name}: {rollout} pauses: evc rollouts resume {rollout.id}"
            return Turn(Kind.WAIT, f"{message}; next look in {wait_s} s", wait_s)
        return None

    def _keep(self, rollout: Rollout, row: RolloutNode, deployed: Deployed) -> None:
        ts = int(time.time())
        with self.engine.begin() as connection:
            end_node(connection, rollout.id, row.node_id, SUCCEEDED, ts, container_id=deployed.container_id)
            assign(connection, row.node_id, rollout.id, ts, status="running", container_id=deployed.container_id)

    def _failed(self, rollout: Rollout, row: RolloutNode, error: EvcError, *, is_last_try: bool) -> Turn:
        ts = int(time.time())
        if isinstance(error, Stopped):
            raise error
        if isinstance(error, NodeUnreachable) or (is_last_try and isinstance(error, NO_ANSWER)):
            with self.engine.begin() as connection:
                end_node(connection, rollout.id, row.node_id, PENDING, ts, message=str(error))
                assign(connection, row.node_id, rollout.id, ts, status="pending")
            return Turn(Kind.SKIP, f"{error}: pending, reconcile_fleet brings it when it answers before the deadline")
        is_final = isinstance(error, FINAL) and not (isinstance(error, NodeRefused) and error.may_pass)
        with self.engine.begin() as connection:
            if is_final or is_last_try:
                status = "refused" if isinstance(error, REFUSALS) else "failed"
                end_node(connection, rollout.id, row.node_id, status, ts, message=str(error))
            else:
                report_node(connection, rollout.id, row.node_id, "preflight", message=f"once more: {error}")
        if is_final:
            raise RolloutFailed(str(error))
        raise error

    # -- back --------------------------------------------------------------------------------------------------------

    def restore(self, run_id: str, name: str, *, is_last_try: bool) -> Turn:
        """Bring a node back to what it had before a roll-out; take the model away where it had none.

        :raises EvcError: it did not work; reconcile_fleet goes on trying
        """
        rollout, row = self._look_up(run_id, name)
        if rollout.command != ROLLBACK or row.status not in (SUCCEEDED, "failed", PENDING):
            return Turn(Kind.SKIP, f"{name}: nothing goes back: {row.status}")
        if self._is_gone(row):
            return Turn(Kind.SKIP, f"{name}: {_GONE}")
        if self._is_being_repaired(rollout, row):
            return Turn(Kind.WAIT, f"{name}: reconcile_fleet is at work there: one more look", _SOON_S)
        try:
            node, nodes = self._node(name)
            told, container_id = self._go_back(rollout, row, node, nodes)
        except EvcError as error:
            return self._still_there(rollout, row, error, is_last_try=is_last_try)
        ts = int(time.time())
        with self.engine.begin() as connection:
            if row.status == "failed":  # it failed here: that is what a person has to see
                message = f"{row.message or 'failed'}; {told}"
                end_node(connection, rollout.id, row.node_id, "failed", ts, message=message)
            else:
                end_node(connection, rollout.id, row.node_id, ROLLED_BACK, ts, message=told, container_id=container_id)
            if row.previous_digest and container_id:
                record_met(connection, row.node_id, rollout.model, row.previous_digest, container_id, ts)
        return Turn(Kind.DONE, f"{name}: {told}")

    def _go_back(
        self, rollout: Rollout, row: RolloutNode, node: Node, nodes: Mapping[str, Node]
    ) -> tuple[str, str | None]:
        if row.previous_digest is None:
            self._run(self._withdraw(node, nodes, rollout.model))
            return "the model is taken away, it had none before", None
        target = Target(
            model_of(row.previous_spec or {}, "rollout_nodes.previous_spec"),
            Image(row.previous_repository or rollout.repository, row.previous_digest),
            RegistryHook().pull_address,
            str(rollout.id),
            previous_digest=rollout.digest,
        )
        deployed = self._run(self._bring(node, nodes, target, _Recorder(None, self.log, rollout.id, row)))
        return f"back on {row.previous_digest}", deployed.container_id

    def _still_there(self, rollout: Rollout, row: RolloutNode, error: EvcError, *, is_last_try: bool) -> Turn:
        no_answer = isinstance(error, NodeUnreachable) or (is_last_try and isinstance(error, NO_ANSWER))
        if row.status != "failed" and (no_answer or is_last_try or isinstance(error, FINAL)):
            message = f"goes back as soon as it can: {error}"
            with self.engine.begin() as connection:
                end_node(connection, rollout.id, row.node_id, PENDING, int(time.time()), message=message)
        if no_answer:
            return Turn(Kind.SKIP, f"{error}: reconcile_fleet brings it back when it answers")
        if isinstance(error, FINAL):
            raise RolloutFailed(str(error))
        raise error

    # -- the node ----------------------------------------------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, Done]) -> Done:
        async def main() -> Done:
            self._work = task = asyncio.ensure_future(work)
            return await task

        try:
            return asyncio.run(main())
        except asyncio.CancelledError:
            raise Stopped("cancelled: what the node was doing it may go on doing; a new try finds it") from None
        finally:
            self._work = None

    async def _bring(self, node: Node, nodes: Mapping[str, Node], target: Target, recorder: _Recorder) -> Deployed:
        pool = self._pool()
        try:
            async with asyncio.timeout(TURN_TIMEOUT_S):
                session, _ = await pool.session(node, nodes)
                self._pin(node, session.host_key)
                steps = Steps(status=recorder.status, progress=recorder.progress, log=recorder.line)
                return await deploy_node(session, target, steps)
        except TimeoutError:
            raise NodeUnreachable(f"{node.name}: not done within {TURN_TIMEOUT_S:g} s") from None
        finally:
            await pool.close()

    async def _withdraw(self, node: Node, nodes: Mapping[str, Node], model: str) -> int:
        pool = self._pool()
        try:
            session, _ = await pool.session(node, nodes)
            async with connect(session) as engine:
                return await withdraw(engine, model)
        finally:
            await pool.close()

    def _pool(self) -> Pool:
        return Pool(self.nodes_hook.credentials, connect_timeout_s=self.settings.connect_timeout_s)

    def _pin(self, node: Node, host_key: str) -> None:
        if node.host_key is None and node.id is not None:
            with self.engine.begin() as connection:
                pin_host_key(connection, node.id, host_key)

    # -- look-ups ----------------------------------------------------------------------------------------------------

    def _look_up(self, run_id: str, name: str) -> tuple[Rollout, RolloutNode]:
        with self.engine.connect() as connection:
            rollout = find_rollout(connection, run_id=run_id)
            row = find_rollout_node(connection, rollout.id, name) if rollout else None
        if rollout is None or row is None:
            raise RolloutFailed(f"{name}: run {run_id} has no roll-out with this node")
        return rollout, row

    def _node(self, name: str) -> tuple[Node, dict[str, Node]]:
        """Return a node, and by name those that are needed to reach it."""
        with self.engine.connect() as connection:
            return find_way(connection, name)

    def _is_gone(self, row: RolloutNode) -> bool:
        """Whether the node was removed meanwhile; another one may have its name by now."""
        with self.engine.connect() as connection:
            found = find_node(connection, row.name)
        return found is None or found.id != row.node_id

    def _is_being_repaired(self, rollout: Rollout, row: RolloutNode) -> bool:
        with self.engine.connect() as connection:
            return is_being_repaired(connection, row.node_id, rollout.model, int(time.time()))


def find_way(connection: Connection, name: str) -> tuple[Node, dict[str, Node]]:
    """Return a node, and by name it and those that lead to it.

    :raises NodeRefused: it is not registered
    """
    way: dict[str, Node] = {}
    wanted: str | None = name
    while wanted is not None and wanted not in way:
        found = find_node(connection, wanted)
        if found is None:
            break  # the pool says what that means for the node
        way[wanted] = found
        wanted = found.jump_node
    if name not in way:
        raise NodeRefused(f"{name}: is not registered any more")
    return way[name], way


def layers_for(layers: Mapping[str, Any] | None, machine: str | None) -> tuple[Layer, ...]:
    """Return the layers that a node pulls; none where that is not known.

    :param layers: of ``rollouts``
    :param machine: as ``uname -m`` says it
    """
    found = layers or {}
    wanted = found.get(architecture_of(machine)) if machine else None
    if wanted is None and len(found) == 1:
        (wanted,) = found.values()
    return tuple(Layer(*layer) for layer in wanted or ())


class _Recorder:
    """Tells the task's log and ``rollout_nodes`` how far a node is.

    :param engine: None: the log only
    """

    def __init__(self, engine: Engine | None, log: Log, rollout_id: int, row: RolloutNode) -> None:
        self._engine, self._log, self._rollout_id, self._row = engine, log, rollout_id, row
        self._status = "preflight"

    def status(self, status: str) -> None:
        """A step begins."""
        self._status = status
        self.line(status)
        self._write()

    def line(self, line: str) -> None:
        """What a reader of the log wants to know."""
        self._log.info("%s: %s", self._row.name, line)

    def progress(self, snapshot: Snapshot) -> None:
        """So far is the pull; called every few seconds."""
        self._write(snapshot)

    def _write(self, snapshot: Snapshot | None = None) -> None:
        if self._engine is None:
            return
        try:
            with self._engine.begin() as connection:
                report_node(
                    connection,
                    self._rollout_id,
                    self._row.node_id,
                    self._status,
                    bytes_done=snapshot.bytes_done if snapshot else None,
                    bytes_total=snapshot.bytes_total if snapshot else None,
                    rate_bytes_per_s=snapshot.rate_bytes_per_s if snapshot else None,
                )
        except DatabaseError as error:
            # how far it is does not matter as much as getting there
            self._log.warning("%s: progress not kept: %s", self._row.name, error)
