"""Sweeps that were done: how long they took, what they found, what they missed."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from evc.store.tables import sweeps


def recorded_sweeps(connection: Connection, run_id: str, shard: int) -> tuple[int, int]:
    """Return how many sweeps of a run one shard has recorded, and the ``ts`` of the last one, 0 where there is none."""
    query = select(func.count(), func.coalesce(func.max(sweeps.c.ts), 0))
    count, last_ts = connection.execute(query.where(sweeps.c.run_id == run_id, sweeps.c.shard == shard)).one()
    return count, last_ts
