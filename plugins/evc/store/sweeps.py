"""Sweeps that were done: how long they took, what they found, what they missed."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from evc.store.tables import sweeps


def count_sweeps(connection: Connection, run_id: str, shard: int) -> int:
    """Return how many sweeps of a run one shard has recorded."""
    query = select(func.count()).where(sweeps.c.run_id == run_id, sweeps.c.shard == shard)
    return int(connection.execute(query).scalar_one())
