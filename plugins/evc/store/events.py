"""Events of nodes: what changed, when, how bad."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from evc.store.dialects import insert_into
from evc.store.tables import node_events, nodes

SEVERITIES = ("info", "warning", "error")
ANOMALY = "anomaly"


def record_event(connection: Connection, node_id: int, kind: str, severity: str, message: str, ts: int) -> bool:
    """Record an event; returns whether it is new.

    A second one of the same kind, node and second is the same event: the first stays.

    :param kind: a word such as ``down`` or ``host_key_changed``
    :param severity: one of :data:`SEVERITIES`
    :param ts: unix seconds
    """
    if severity not in SEVERITIES:
        raise ValueError(f"severity {severity!r} is none of {', '.join(SEVERITIES)}")
    values = {"ts": ts, "node_id": node_id, "kind": kind, "severity": severity, "message": message}
    made = insert_into(connection, node_events).values(values).on_conflict_do_nothing().returning(node_events.c.ts)
    return connection.execute(made).first() is not None


def event_rows(
    connection: Connection, node: str | None = None, kind: str | None = None, limit: int = 100
) -> list[dict[str, Any]]:
    """Return events, the newest first: ``ts``, ``node_id``, ``node`` (its name), ``kind``, ``severity``, ``message``.

    :param node: only those of nodes of that name, removed ones too
    """
    query = select(
        node_events.c.ts,
        node_events.c.node_id,
        nodes.c.name.label("node"),
        node_events.c.kind,
        node_events.c.severity,
        node_events.c.message,
    ).join(nodes, nodes.c.id == node_events.c.node_id)
    if node is not None:
        query = query.where(nodes.c.name == node)
    if kind is not None:
        query = query.where(node_events.c.kind == kind)
    query = query.order_by(node_events.c.ts.desc(), node_events.c.node_id, node_events.c.kind).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]
