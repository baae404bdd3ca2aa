"""Assignments: which digest of a model a node should have, and what was found there. The transaction is the caller's.

A digest becomes a node's own when it succeeded there, or when a roll-out waits for the node to answer; a roll-back, or
the end of that wait, gives back what was there before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, delete, or_, select, update

from evc.fleet.waves import EXPIRED, WAITING, WORKING
from evc.fleet.waves import PENDING as AWAITED
from evc.store.dialects import insert_into
from evc.store.tables import assignments, nodes, rollout_nodes, rollouts

PENDING, RUNNING, DRIFTED, UNREACHABLE, REPAIRING = "pending", "running", "drifted", "unreachable", "repairing"
REPAIR_TIMEOUT_S = 900


@dataclass(frozen=True, slots=True)
class Assignment:
    """A row of ``assignments``.

    :param status: ``pending`` until it was met once, then what was last found: ``running``, ``drifted``,
        ``unreachable``; ``repairing`` while reconcile_fleet is at work on the node
    """

    node_id: int
    model: str
    repository: str
    tag: str | None
    digest: str
    spec: Mapping[str, Any]
    rollout_id: int | None
    ts: int
    status: str
    running_digest: str | None
    container_id: str | None
    checked_ts: int | None
    message: str | None


def _assignment(row: RowMapping) -> Assignment:
    return Assignment(**{item.name: row[item.name] for item in fields(Assignment)})


def _key(node_id: int, model: str) -> ColumnElement[bool]:
    return and_(assignments.c.node_id == node_id, assignments.c.model == model)


def list_assignments(connection: Connection) -> list[Assignment]:
    """Return the assignments of registered nodes, by node and model."""
    query = (
        select(assignments)
        .join(nodes, nodes.c.id == assignments.c.node_id)
        .where(nodes.c.removed_ts.is_(None))
        .order_by(assignments.c.node_id, assignments.c.model)
    )
    return [_assignment(row) for row in connection.execute(query).mappings()]


def find_assignment(connection: Connection, node_id: int, model: str) -> Assignment | None:
    """Return what a node should have of a model."""
    row = connection.execute(select(assignments).where(_key(node_id, model))).mappings().first()
    return _assignment(row) if row else None


def assign(
    connection: Connection, node_id: int, rollout_id: int, ts: int, *, status: str, container_id: str | None = None
) -> None:
    """Let the digest of a roll-out be the one that a node should have.

    :param status: ``running`` where it runs, ``pending`` where the node does not answer
    :param container_id: where it runs
    """
    wanted = connection.execute(select(rollouts).where(rollouts.c.id == rollout_id)).mappings().one()
    values = {
        **{name: wanted[name] for name in ("model", "repository", "tag", "digest", "spec")},
        "node_id": node_id,
        "rollout_id": rollout_id,
        "ts": ts,
        "status": status,
        "message": None,
    }
    if status == RUNNING:
        values |= {"running_digest": wanted["digest"], "container_id": container_id, "checked_ts": ts}
    _upsert(connection, values)


def give_back(connection: Connection, rollout_id: int, node_id: int, ts: int, *, status: str | None = None) -> None:
    """Let a node should have what it had before a roll-out; nothing where it had nothing.

    Happens once: an assignment that another roll-out made since stays.

    :param status: of the assignment: None keeps what was last found to be running there, else ``pending``
    """
    query = (
        select(rollout_nodes, rollouts.c.model)
        .join(rollouts)
        .where(rollout_nodes.c.rollout_id == rollout_id, rollout_nodes.c.node_id == node_id)
    )
    row = connection.execute(query).mappings().one()
    own = and_(_key(node_id, row["model"]), assignments.c.rollout_id == rollout_id)
    if row["previous_digest"] is None:
        connection.execute(delete(assignments).where(own))
        return
    found = find_assignment(connection, node_id, row["model"])
    if found is None or found.rollout_id != rollout_id:
        return
    runs = found.running_digest == row["previous_digest"]
    values = {
        "repository": row["previous_repository"],
        "digest": row["previous_digest"],
        "spec": row["previous_spec"],
        "tag": None,
        "rollout_id": None,
        "ts": ts,
        "status": status or (RUNNING if runs else PENDING),
        "message": None,
    }
    connection.execute(update(assignments).where(own).values(values))


def _upsert(connection: Connection, values: Mapping[str, Any]) -> None:
    changed = {name: value for name, value in values.items() if name not in ("node_id", "model")}
    statement = insert_into(connection, assignments).values(values)
    connection.execute(statement.on_conflict_do_update(index_elements=["node_id", "model"], set_=changed))


# -- what reconcile_fleet finds --------------------------------------------------------------------------------------


def _is_rolled_out(node_id: int, model: str) -> ColumnElement[bool]:
    """Whether an unfinished roll-out has this node ahead of it, is at work there, or goes back."""
    return (
        select(rollout_nodes.c.node_id)
        .join(rollouts)
        .where(
            rollouts.c.model == model,
            rollouts.c.finished_ts.is_(None),
            rollout_nodes.c.node_id == node_id,
            or_(rollout_nodes.c.status.in_([WAITING, *WORKING]), rollouts.c.command == "rollback"),
        )
        .exists()
    )


def record_found(
    connection: Connection,
    found: Assignment,
    ts: int,
    *,
    status: str,
    running_digest: str | None = None,
    container_id: str | None = None,
    message: str | None = None,
) -> bool:
    """Keep what was found on a node; False where the assignment is another by now, or a roll-out works on it.

    :param found: the assignment as it was when the node was asked
    """
    values = {"status": status, "checked_ts": ts, "message": message}
    if status != UNREACHABLE:
        values |= {"running_digest": running_digest, "container_id": container_id}
    statement = update(assignments).where(
        _key(found.node_id, found.model),
        assignments.c.digest == found.digest,
        assignments.c.ts == found.ts,
        ~_is_rolled_out(found.node_id, found.model),
    )
    return connection.execute(statement.values(values)).rowcount > 0


def claim_repair(connection: Connection, found: Assignment, ts: int) -> bool:
    """Announce that reconcile_fleet will change what runs there; False where a roll-out is about to, or is at it.

    False too where another run of reconcile_fleet is at it. Ask :func:`is_contested` in a transaction of its own
    afterwards: a roll-out may have started meanwhile.
    """
    free = or_(assignments.c.status != REPAIRING, assignments.c.checked_ts <= ts - REPAIR_TIMEOUT_S)
    statement = update(assignments).where(
        _key(found.node_id, found.model),
        assignments.c.digest == found.digest,
        assignments.c.ts == found.ts,
        free,
        ~_is_rolled_out(found.node_id, found.model),
    )
    return connection.execute(statement.values(status=REPAIRING, checked_ts=ts)).rowcount > 0


def renew_repair(connection: Connection, found: Assignment, ts: int) -> bool:
    """Say that reconcile_fleet is still at work there; False where it should end: a roll-out has other plans."""
    statement = update(assignments).where(
        _key(found.node_id, found.model),
        assignments.c.digest == found.digest,
        assignments.c.status == REPAIRING,
        ~_is_rolled_out(found.node_id, found.model),
    )
    return connection.execute(statement.values(checked_ts=ts)).rowcount > 0


def record_met(connection: Connection, node_id: int, model: str, digest: str, container_id: str, ts: int) -> bool:
    """Keep that a node has what it should have; False where it should have another digest by now."""
    statement = update(assignments).where(_key(node_id, model), assignments.c.digest == digest)
    values = {"status": RUNNING, "running_digest": digest, "container_id": container_id, "checked_ts": ts}
    return connection.execute(statement.values({**values, "message": None})).rowcount > 0


def unclaim_repair(connection: Connection, found: Assignment, status: str, message: str | None) -> None:
    """Take the announcement of a repair back.

    :param message: why it did not work; None: it may be tried again at once
    """
    statement = update(assignments).where(_key(found.node_id, found.model), assignments.c.status == REPAIRING)
    connection.execute(statement.values(status=status, message=message))


def is_contested(connection: Connection, node_id: int, model: str) -> bool:
    """Whether an unfinished roll-out has this node and model ahead of it, is at work there, or goes back."""
    return bool(connection.execute(select(_is_rolled_out(node_id, model))).scalar())


def is_being_repaired(connection: Connection, node_id: int, model: str, ts: int) -> bool:
    """Whether reconcile_fleet is at work there; one that died is not waited for longer than a quarter of an hour."""
    fresh = assignments.c.checked_ts > ts - REPAIR_TIMEOUT_S
    query = select(assignments.c.node_id).where(_key(node_id, model), assignments.c.status == REPAIRING, fresh)
    return connection.execute(query).first() is not None


def pending_returns(connection: Connection) -> dict[tuple[int, str], tuple[int, str | None]]:
    """Return, by node and model, the roll-out that still has to go back there and the digest to go back to.

    No digest: the node had none before, the model has to be taken away.
    """
    query = (
        select(rollout_nodes.c.node_id, rollouts.c.model, rollouts.c.id, rollout_nodes.c.previous_digest)
        .join(rollouts, rollouts.c.id == rollout_nodes.c.rollout_id)
        .join(nodes, nodes.c.id == rollout_nodes.c.node_id)
        .where(
            rollout_nodes.c.status == PENDING,
            rollouts.c.status == "rolled_back",
            nodes.c.removed_ts.is_(None),
        )
        .order_by(rollouts.c.id)
    )
    return {
        (int(node_id), str(model)): (int(rollout_id), digest)
        for node_id, model, rollout_id, digest in connection.execute(query)
    }


def is_due(found: Assignment, ts: int, interval_s: int, *, is_up: bool) -> bool:
    """Whether a node should be looked at: at once where something can be done there, else every ``interval_s``.

    :param is_up: the node answered its last sweep
    """
    if found.checked_ts is None:
        return True
    if found.status == REPAIRING:
        return found.checked_ts <= ts - REPAIR_TIMEOUT_S
    is_open = (found.status == UNREACHABLE and is_up) or (found.status == PENDING and found.message is None)
    return is_open or found.checked_ts <= ts - interval_s


def forget_node(connection: Connection, node_id: int, ts: int) -> None:
    """Let a node should have nothing any more: it leaves the fleet, and no roll-out waits for it any longer."""
    connection.execute(delete(assignments).where(assignments.c.node_id == node_id))
    awaited = and_(rollout_nodes.c.node_id == node_id, rollout_nodes.c.status == AWAITED)
    values = {"status": EXPIRED, "message": "was removed from the fleet", "finished_ts": ts}
    connection.execute(update(rollout_nodes).where(awaited).values(values))
