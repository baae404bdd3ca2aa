"""Sweeps that were done: how long they took, what they found, what they missed."""

from __future__ import annotations

from sqlalchemy import Connection, select

from evc.store.tables import sweeps


def recorded_sweeps(connection: Connection, run_id: str, shard: int) -> frozenset[int]:
    """Return the ``ts`` of the sweeps of a run that one shard has recorded."""
    query = select(sweeps.c.ts).where(sweeps.c.run_id == run_id, sweeps.c.shard == shard)
    return frozenset(connection.execute(query).scalars())
