"""Reading samples back."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, func, select

from evc.store.tables import node_samples, nodes

_NAME = nodes.c.name.label("node")


def sample_rows(connection: Connection, node_name: str, limit: int = 100) -> list[dict[str, Any]]:
    """Return the last ``limit`` rows of ``node_samples`` of a registered node, the newest first.

    Each with ``node``, the node's name; empty where no node of that name is registered.
    """
    query = (
        select(_NAME, node_samples)
        .join(nodes, nodes.c.id == node_samples.c.node_id)
        .where(nodes.c.name == node_name, nodes.c.removed_ts.is_(None))
        .order_by(node_samples.c.ts.desc())
        .limit(limit)
    )
    return [dict(row) for row in connection.execute(query).mappings()]


def latest_samples(connection: Connection) -> list[dict[str, Any]]:
    """Return the last row of ``node_samples`` of each registered node that has one, and ``node``, by name."""
    other = node_samples.alias()
    # one look into the index (node_id, ts) for each node
    newest = select(func.max(other.c.ts)).where(other.c.node_id == nodes.c.id).scalar_subquery()
    query = (
        select(_NAME, node_samples)
        .join(nodes, nodes.c.id == node_samples.c.node_id)
        .where(nodes.c.removed_ts.is_(None), node_samples.c.ts == newest)
        .order_by(nodes.c.name)
    )
    return [dict(row) for row in connection.execute(query).mappings()]
