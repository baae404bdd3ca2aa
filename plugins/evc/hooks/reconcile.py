"""Reconciliation: what runs on the nodes against what should; nodes that were away are brought up to date.

One event loop for all nodes, one request to the engine of each. A node that does not answer is data.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Engine

from evc.engine.client import connect
from evc.errors import ContainerFailed, EvcError, InputError, LoginRefused, NodeError, NodeRefused
from evc.fleet.images import Image
from evc.fleet.log import Log
from evc.fleet.nodes import Node, select
from evc.fleet.progress import Snapshot
from evc.fleet.waves import ROLLED_BACK, SUCCEEDED
from evc.hooks.deployment import layers_for
from evc.hooks.metrics import checked_engine
from evc.hooks.nodes import NodesHook
from evc.hooks.registry import RegistryHook
from evc.hooks.rollouts import Ended, RolloutHook, model_of
from evc.hooks.settings import settings
from evc.rollout.containers import Running, running
from evc.rollout.node import Deployed, Steps, Target, deploy_node, wanted_config, withdraw
from evc.ssh.pool import Pool
from evc.ssh.session import Session
from evc.store.assignments import (
    DRIFTED,
    PENDING,
    REPAIRING,
    UNREACHABLE,
    Assignment,
    claim_repair,
    give_back,
    is_contested,
    is_due,
    list_assignments,
    pending_returns,
    record_found,
    record_met,
    renew_repair,
    unclaim_repair,
)
from evc.store.assignments import RUNNING as MET
from evc.store.events import record_event
from evc.store.nodes import list_nodes, node_rows
from evc.store.rollout_nodes import previous_digest, settle_pending
from evc.store.rollouts import expire_pending, find_rollout

log = logging.getLogger(__name__)

AT_ONCE = 50
LOOK_TIMEOUT_S = 60.0
BRING_TIMEOUT_S = 600.0  # less than a claim holds; begins anew as long as bytes of an image come
PULL_TIMEOUT_S = 2 * 3600.0  # for all of it, however slow the way is
RENEW_S = 60.0
_SHOWN = 5
_FAILS_AGAIN = (NodeRefused, ContainerFailed, LoginRefused, InputError)

Return = tuple[int, str | None]
"""Roll-out that went back, and the digest to go back to; None: the model is taken away."""


@dataclass(slots=True)
class _Work:
    """What is to be looked at on one node."""

    node: Node
    assigned: list[Assignment] = field(default_factory=list)
    returns: dict[str, Return] = field(default_factory=dict)


class ReconcileHook:
    """Compares and brings; one object serves one task.

    :param log: the task's own log
    :param repair: put right what someone changed by hand; None: as ``[evc] repair_drift`` says
    """

    def __init__(self, log: Log, repair: bool | None = None) -> None:
        self.log = log
        self.settings = settings()
        self.repair = self.settings.repair_drift if repair is None else repair
        self.counts: Counter[str] = Counter()
        self._nodes_hook = NodesHook()
        self._nodes: dict[str, Node] = {}
        self._returns: dict[tuple[int, str], Return] = {}
        self._pulls = asyncio.Semaphore(self.settings.pull_slots)
        self._work: asyncio.Task[None] | None = None

    @cached_property
    def engine(self) -> Engine:
        """The metrics database. :raises DatabaseError: away, or of another version"""
        return checked_engine()

    def stop(self) -> None:
        """End the work under way: someone cancelled the task."""
        if self._work:
            self._work.get_loop().call_soon_threadsafe(self._work.cancel)

    def reconcile(self, names: Sequence[str], groups: Sequence[str], ended: Ended) -> dict[str, int]:
        """Close what nobody closes, expire what is late, then look at every node that is due.

        Returns how many assignments were found how: ``running``, ``drifted``, ``unreachable``, ``brought``,
        ``failed``, ``expired``, ``closed``.

        :param names: only these nodes, all that they should have; empty, with no group either: those that are due
        :raises InputError: a name or group that no node has
        """
        self.counts["closed"] += len(RolloutHook(self.log).close_abandoned(ended))
        now_ts = int(time.time())
        with self.engine.begin() as connection:
            self.counts["expired"] += len(expire_pending(connection, now_ts))
        work = self._due(names, groups, now_ts)
        if work:
            asyncio.run(self._main(work))
        return {name: count for name, count in sorted(self.counts.items()) if count}

    def _due(self, names: Sequence[str], groups: Sequence[str], now_ts: int) -> list[_Work]:
        with self.engine.connect() as connection:
            nodes = list_nodes(connection)
            up = {row["id"] for row in node_rows(connection) if row["status"] == "up"}
            assigned = list_assignments(connection)
            self._returns = pending_returns(connection)
        self._nodes = {node.name: node for node in nodes}
        chosen = {node.id for node in select(nodes, names, groups)}
        asked = bool(names or groups)
        by_id = {node.id: node for node in nodes}
        work: defaultdict[int, _Work] = defaultdict(lambda: _Work(Node("", "")))
        for found in assigned:
            due = is_due(found, now_ts, self.settings.drift_interval_s, is_up=found.node_id in up)
            if found.node_id in chosen and (asked or due):
                work[found.node_id].assigned.append(found)
        for (node_id, model), back in self._returns.items():
            if node_id in chosen and back[1] is None:
                work[node_id].returns[model] = back
        for node_id, item in work.items():
            item.node = by_id[node_id]
        return list(work.values())

    # -- nodes -------------------------------------------------------------------------------------------------------

    async def _main(self, work: Sequence[_Work]) -> None:
        pool = Pool(self._nodes_hook.credentials, connect_timeout_s=self.settings.connect_timeout_s)
        places = asyncio.Semaphore(AT_ONCE)

        async def one(item: _Work) -> None:
            async with places:
                try:
                    await self._node(pool, item)
                except EvcError:
                    raise  # of ours: it concerns every node
                except Exception as error:
                    # whatever a node answers, the others have their turn
                    log.error("%s: error of EVC itself", item.node.name, exc_info=error)
                    self.counts["failed"] += 1
                finally:
                    if item.node.name not in gates:  # others are reached through it
                        await pool.discard(item.node)

        gates = {node.jump_node for node in self._nodes.values()}
        self._work = asyncio.current_task()
        try:
            async with asyncio.TaskGroup() as tasks:
                for item in work:
                    tasks.create_task(one(item))
        except* EvcError as several:
            # of the database, or a login of ours: one says it
            raise _first(several) from None
        finally:
            await pool.close()

    async def _node(self, pool: Pool, item: _Work) -> None:
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                session, _ = await pool.session(item.node, self._nodes)
                async with connect(session) as engine:
                    found = await running(engine)
        except TimeoutError:
            self._no_answer(item, f"{item.node.name}: did not answer within {LOOK_TIMEOUT_S:g} s")
            return
        except EvcError as error:
            self._no_answer(item, str(error))
            return
        for assignment in item.assigned:
            await self._assignment(session, item.node, assignment, [it for it in found if it.model == assignment.model])
        for model, (rollout_id, _) in item.returns.items():
            await self._take_away(session, item.node, model, rollout_id)

    def _no_answer(self, item: _Work, message: str) -> None:
        ts = int(time.time())
        with self.engine.begin() as connection:
            for found in item.assigned:
                if found.status in (PENDING, REPAIRING):
                    continue  # it is waited for anyway
                if record_found(connection, found, ts, status=UNREACHABLE, message=message):
                    self.counts["unreachable"] += 1
        self.log.warning("%s", message)

    # -- one model on one node ---------------------------------------------------------------------------------------

    async def _assignment(self, session: Session, node: Node, found: Assignment, there: Sequence[Running]) -> None:
        try:
            target = self._target(found)
        except EvcError as error:
            self._keep(found, DRIFTED if there else PENDING, there, str(error))
            self.log.error("%s: %s: %s", node.name, found.model, error)
            return
        config = wanted_config(target)
        right = [it for it in there if it.is_right and it.config == config]
        if right and len(there) == 1:
            self._met(node, found, right[0])
        elif found.status in (PENDING, REPAIRING) or self.repair:
            await self._bring(session, node, found, target, there)
        else:
            self._show_drift(node, found, there, told(found, there))

    def _target(self, found: Assignment) -> Target:
        layers: Mapping[str, Any] | None = None
        previous: str | None = None
        if found.rollout_id is not None:
            with self.engine.connect() as connection:
                rollout = find_rollout(connection, rollout_id=found.rollout_id)
                previous = previous_digest(connection, found.rollout_id, found.node_id)
            layers = rollout.layers if rollout else None
        return Target(
            model_of(found.spec, "assignments.spec"),
            Image(found.repository, found.digest, found.tag),
            RegistryHook().pull_address,
            str(found.rollout_id or "reconcile"),
            layers_for(layers, None),
            previous_digest=previous,
        )

    def _met(self, node: Node, found: Assignment, right: Running) -> None:
        ts = int(time.time())
        with self.engine.begin() as connection:
            kept = record_found(
                connection, found, ts, status=MET, running_digest=right.digest, container_id=right.container_id
            )
            if kept and found.status == PENDING:
                self._settle(connection, node, found, right.container_id, ts)
        self.counts["running"] += 1

    def _show_drift(self, node: Node, found: Assignment, there: Sequence[Running], message: str) -> None:
        first = there[0] if there else None
        digest, container_id = (first.digest, first.container_id) if first else (None, None)
        is_news = found.status != DRIFTED or (found.running_digest, found.container_id) != (digest, container_id)
        if self._keep(found, DRIFTED, there, message):
            self.counts["drifted"] += 1
            if is_news:
                self._event(node, "drift", "warning", f"{found.model}: {message}")
            self.log.warning("%s: %s: %s", node.name, found.model, message)

    def _keep(self, found: Assignment, status: str, there: Sequence[Running], message: str) -> bool:
        first = there[0] if there else None
        with self.engine.begin() as connection:
            return record_found(
                connection,
                found,
                int(time.time()),
                status=status,
                running_digest=first.digest if first else None,
                container_id=first.container_id if first else None,
                message=message,
            )

    async def _bring(
        self, session: Session, node: Node, found: Assignment, target: Target, there: Sequence[Running]
    ) -> None:
        async with self._pulls:  # first: a claim that had to wait here would be over before the work is
            if not self._claim(found):
                self.log.info("%s: %s: a roll-out, or another run of this, is at work there", node.name, found.model)
                return
            await self._bring_claimed(session, node, found, target, there)

    async def _bring_claimed(
        self, session: Session, node: Node, found: Assignment, target: Target, there: Sequence[Running]
    ) -> None:
        try:
            async with asyncio.timeout(BRING_TIMEOUT_S) as limit:
                extension = _Extension(limit, lambda: self._renew(found))
                steps = Steps(
                    log=lambda line: self.log.info("%s: %s: %s", node.name, found.model, line),
                    progress=extension.take,
                )
                deployed = await deploy_node(session, target, steps)
        except TimeoutError:
            self._not_brought(node, found, NodeError(f"{node.name}: not done within {BRING_TIMEOUT_S:g} s"))
        except EvcError as error:
            self._not_brought(node, found, error)
        except BaseException:
            self._release(found)
            raise
        else:
            self._brought(node, found, deployed, told(found, there))

    def _claim(self, found: Assignment) -> bool:
        """Announce the repair, then look whether a roll-out announced itself too: then it goes first."""
        with self.engine.begin() as connection:
            if not claim_repair(connection, found, int(time.time())):
                return False
        with self.engine.connect() as connection:
            contested = is_contested(connection, found.node_id, found.model)
        if contested:
            self._release(found)
        return not contested

    def _renew(self, found: Assignment) -> bool:
        with self.engine.begin() as connection:
            return renew_repair(connection, found, int(time.time()))

    def _release(self, found: Assignment, message: str | None = None) -> None:
        status = PENDING if found.status == REPAIRING else found.status
        with self.engine.begin() as connection:
            unclaim_repair(connection, found, status, message)

    def _brought(self, node: Node, found: Assignment, deployed: Deployed, was: str) -> None:
        ts = int(time.time())
        with self.engine.begin() as connection:
            record_met(connection, found.node_id, found.model, found.digest, deployed.container_id, ts)
            self._settle(connection, node, found, deployed.container_id, ts)
        self.counts["brought"] += 1
        self.log.info("%s: %s: brought to %s; %s", node.name, found.model, found.digest, was)
        if found.status not in (PENDING, REPAIRING):
            self._event(node, "drift_repaired", "info", f"{found.model}: {was}; now {found.digest}")

    def _settle(self, connection: Connection, node: Node, found: Assignment, container_id: str, ts: int) -> None:
        """Tell the roll-out that waited for this node, or that had to go back there."""
        rollout_id, status = found.rollout_id, SUCCEEDED
        if rollout_id is None:
            rollout_id, digest = self._returns.get((found.node_id, found.model), (None, None))
            status = ROLLED_BACK
            if digest != found.digest:
                return
        if rollout_id is not None:
            message = f"{node.name} answers again: reconcile_fleet brought it"
            settle_pending(
                connection, rollout_id, found.node_id, status, ts, message=message, container_id=container_id
            )

    def _not_brought(self, node: Node, found: Assignment, error: EvcError) -> None:
        """Keep why; where a roll-out waited for the node and it would fail again, it keeps what it had."""
        ts = int(time.time())
        self.counts["failed"] += 1
        self.log.error("%s: %s: %s", node.name, found.model, error)
        fails_again = isinstance(error, _FAILS_AGAIN) and not (isinstance(error, NodeRefused) and error.may_pass)
        if fails_again and found.rollout_id is not None and found.status == PENDING:
            status = "failed" if isinstance(error, ContainerFailed) else "refused"
            with self.engine.begin() as connection:
                if settle_pending(connection, found.rollout_id, found.node_id, status, ts, message=str(error)):
                    give_back(connection, found.rollout_id, found.node_id, ts)
                    return
        self._release(found, str(error) if fails_again or found.status != PENDING else None)

    async def _take_away(self, session: Session, node: Node, model: str, rollout_id: int) -> None:
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S), connect(session) as engine:
                count = await withdraw(engine, model)
        except (TimeoutError, EvcError) as error:
            self.log.error("%s: %s: not taken away yet: %s", node.name, model, error)
            return
        message = f"taken away: {count} containers; it had none before"
        with self.engine.begin() as connection:
            settle_pending(connection, rollout_id, int(node.id or 0), ROLLED_BACK, int(time.time()), message=message)
        self.counts["brought"] += 1
        self.log.info("%s: %s: %s", node.name, model, message)

    def _event(self, node: Node, kind: str, severity: str, message: str) -> None:
        if node.id is not None:
            with self.engine.begin() as connection:
                record_event(connection, node.id, kind, severity, message, int(time.time()))


class _Extension:
    """Lets a pull that gets on take its time: a large layer over a slow way is never there in one piece otherwise.

    :param limit: what ends the work
    :param renew: says that it is still under way; false: it should end
    """

    def __init__(self, limit: asyncio.Timeout, renew: Callable[[], bool]) -> None:
        self._limit, self._renew = limit, renew
        self._clock = asyncio.get_running_loop().time
        self._end = self._clock() + PULL_TIMEOUT_S
        self._renewed_at = self._clock()
        self._bytes_done = 0

    def take(self, snapshot: Snapshot) -> None:
        """So far is the pull; called every few seconds."""
        now = self._clock()
        if snapshot.bytes_done <= self._bytes_done or now < self._renewed_at + RENEW_S:
            return
        self._bytes_done, self._renewed_at = snapshot.bytes_done, now
        self._limit.reschedule(min(now + BRING_TIMEOUT_S, self._end) if self._renew() else now)


def _first(error: BaseExceptionGroup[EvcError]) -> EvcError:
    inner = error.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def told(found: Assignment, there: Sequence[Running]) -> str:
    """Return what is there instead of what should be, on one line."""
    wanted = f"{found.digest[:19]} is wanted"
    if not there:
        return f"{wanted}, no container is there"
    others = [it for it in there if it.digest != found.digest]
    if others:
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        return f"{wanted}, {', '.join(f'{it.digest[:19]} is there ({it.state})' for it in others[:_SHOWN])}{more}"
    if len(there) > 1:
        return f"{wanted} once, it is there {len(there)} times"
    (only,) = there
    if only.is_right:
        return f"{wanted}, it runs with another model.yaml"
    return f"{wanted}, it is {only.state}{f', {only.health}' if only.health else ''}"
