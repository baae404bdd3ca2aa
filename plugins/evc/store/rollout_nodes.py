"""What a roll-out does on each of its nodes. The transaction is the caller's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, select, update

from evc.fleet.waves import FAILED, PENDING, STATUSES, SUCCEEDED, WAITING, WORKING
from evc.store.tables import nodes, rollout_nodes, rollouts

_MAX_MESSAGE = 2000


@dataclass(frozen=True, slots=True)
class RolloutNode:
    """A row of ``rollout_nodes``, with the node's name.

    :param arch: of the node, as ``uname -m`` says it; None where no sweep has told
    :param previous_digest: what the node should have had before; None: nothing
    """

    rollout_id: int
    node_id: int
    name: str
    arch: str | None
    wave: int
    status: str
    message: str | None
    previous_digest: str | None
    previous_repository: str | None
    previous_spec: Mapping[str, Any] | None
    container_id: str | None
    started_ts: int | None


_OF_NODES = ("name", "arch")
_SHOWN = [nodes.c[name] if name in _OF_NODES else rollout_nodes.c[name] for name in RolloutNode.__dataclass_fields__]


def _key(rollout_id: int, node_id: int) -> ColumnElement[bool]:
    return and_(rollout_nodes.c.rollout_id == rollout_id, rollout_nodes.c.node_id == node_id)


def list_rollout_nodes(connection: Connection, rollout_id: int, wave: int | None = None) -> list[RolloutNode]:
    """Return the nodes of a roll-out, or of one of its waves, by wave and name."""
    query = select(*_SHOWN).join(nodes, nodes.c.id == rollout_nodes.c.node_id)
    query = query.where(rollout_nodes.c.rollout_id == rollout_id).order_by(rollout_nodes.c.wave, nodes.c.name)
    if wave is not None:
        query = query.where(rollout_nodes.c.wave == wave)
    return [RolloutNode(**row) for row in connection.execute(query).mappings()]


def rollout_node_rows(connection: Connection, rollout_id: int) -> list[dict[str, Any]]:
    """Return the nodes of a roll-out by wave and name: ``name``, and the columns of ``rollout_nodes`` but the spec."""
    shown = [column for column in rollout_nodes.c if column.name != "previous_spec"]
    query = select(nodes.c.name, *shown).join(nodes, nodes.c.id == rollout_nodes.c.node_id)
    query = query.where(rollout_nodes.c.rollout_id == rollout_id).order_by(rollout_nodes.c.wave, nodes.c.name)
    return [dict(row) for row in connection.execute(query).mappings()]


def find_rollout_node(connection: Connection, rollout_id: int, name: str) -> RolloutNode | None:
    """Return one node of a roll-out by its name."""
    query = select(*_SHOWN).join(nodes, nodes.c.id == rollout_nodes.c.node_id)
    query = query.where(rollout_nodes.c.rollout_id == rollout_id, nodes.c.name == name)
    row = connection.execute(query).mappings().first()
    return RolloutNode(**row) if row else None


def previous_digest(connection: Connection, rollout_id: int, node_id: int) -> str | None:
    """Return what a node should have had before a roll-out; None where that was nothing."""
    query = select(rollout_nodes.c.previous_digest).where(_key(rollout_id, node_id))
    found: str | None = connection.execute(query).scalar()
    return found


def begin_node(connection: Connection, rollout_id: int, node_id: int, ts: int) -> bool:
    """Begin the work on a node; False where it is done already, or where the roll-out is finished, paused or aborted.

    A node that failed may begin anew: its task was retried or cleared.
    """
    going = (
        select(rollouts.c.id)
        .where(rollouts.c.id == rollout_id, rollouts.c.finished_ts.is_(None), rollouts.c.command.is_(None))
        .exists()
    )
    may = rollout_nodes.c.status.in_([WAITING, PENDING, *WORKING, *FAILED])
    values = {"status": "preflight", "message": None, "started_ts": ts, "finished_ts": None}
    values |= {"bytes_done": None, "bytes_total": None, "rate_bytes_per_s": None}
    statement = update(rollout_nodes).where(_key(rollout_id, node_id), may, going).values(values)
    return connection.execute(statement).rowcount > 0


def report_node(
    connection: Connection,
    rollout_id: int,
    node_id: int,
    status: str,
    *,
    bytes_done: int | None = None,
    bytes_total: int | None = None,
    rate_bytes_per_s: float | None = None,
    message: str | None = None,
) -> bool:
    """Keep how far a node is; False where it is done by now.

    :param status: one of :data:`~evc.fleet.waves.WORKING`; numbers that are None stay as they are
    """
    numbers = {"bytes_done": bytes_done, "bytes_total": bytes_total, "rate_bytes_per_s": rate_bytes_per_s}
    values: dict[str, Any] = {name: value for name, value in numbers.items() if value is not None}
    values |= {"status": status, "message": _short(message)}
    statement = update(rollout_nodes).where(_key(rollout_id, node_id), rollout_nodes.c.status.in_(WORKING))
    return connection.execute(statement.values(values)).rowcount > 0


def end_node(
    connection: Connection,
    rollout_id: int,
    node_id: int,
    status: str,
    ts: int,
    *,
    message: str | None = None,
    container_id: str | None = None,
) -> None:
    """Keep what became of a node.

    :param status: any of :data:`~evc.fleet.waves.STATUSES` that is an end
    """
    if status not in STATUSES - WORKING:
        raise ValueError(f"{status!r} is no end of a node's turn")
    values = {"status": status, "message": _short(message), "finished_ts": None if status == PENDING else ts}
    if container_id is not None:
        values["container_id"] = container_id
    if status == SUCCEEDED:
        values["rate_bytes_per_s"] = None
    connection.execute(update(rollout_nodes).where(_key(rollout_id, node_id)).values(values))


def settle_pending(
    connection: Connection,
    rollout_id: int,
    node_id: int,
    status: str,
    ts: int,
    *,
    message: str | None = None,
    container_id: str | None = None,
) -> bool:
    """Keep what became of a node that a roll-out waited for; False where it does not wait any more."""
    values = {"status": status, "message": _short(message), "container_id": container_id, "finished_ts": ts}
    statement = update(rollout_nodes).where(_key(rollout_id, node_id), rollout_nodes.c.status == PENDING)
    return connection.execute(statement.values(values)).rowcount > 0


def node_history(connection: Connection, node_id: int, limit: int = 20) -> list[dict[str, Any]]:
    """Return what roll-outs did on a node, the newest first: ``rollout_id``, ``model``, ``digest``, ``status`` ..."""
    query = (
        select(
            rollout_nodes.c.rollout_id,
            rollouts.c.model,
            rollouts.c.tag,
            rollouts.c.digest,
            rollout_nodes.c.wave,
            rollout_nodes.c.status,
            rollout_nodes.c.message,
            rollout_nodes.c.started_ts,
            rollout_nodes.c.finished_ts,
        )
        .join(rollouts)
        .where(rollout_nodes.c.node_id == node_id)
        .order_by(rollout_nodes.c.rollout_id.desc())
        .limit(limit)
    )
    return [dict(row) for row in connection.execute(query).mappings()]


def _short(message: str | None) -> str | None:
    return None if message is None else message[:_MAX_MESSAGE]
