"""The tables that grow by the minute in partitions by time, on PostgreSQL. All details by node, on both.

A table that holds rows becomes the first partition as it is, with its indexes: no row is copied. PostgreSQL reads it
once, to know that it holds no row of another partition, and once for an index; sweeps go to the spool meanwhile.
"""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_WEEK_S = 7 * 86_400
_KEYS = {
    "node_samples": ("ts", "node_id"),
    "temperature_samples": ("ts", "node_id", "zone"),
    "storage_samples": ("ts", "node_id", "mountpoint"),
    "network_samples": ("ts", "node_id", "interface"),
}
_DETAILS = ("temperature_samples", "storage_samples", "network_samples")


def upgrade() -> None:
    """Index the details by node, then put each table in the place of its first partition."""
    for table in _DETAILS:
        op.create_index(f"ix_{table}_node_id_ts", table, ["node_id", "ts"], unique=False)
    if op.get_bind().dialect.name != "postgresql":
        return
    for table, key in _KEYS.items():
        _partition(table, key)


def _partition(table: str, key: tuple[str, ...]) -> None:
    index = f"ix_{table}_node_id_ts"
    before, rest = f"{table}_before", f"{table}_rest"
    op.execute(f"ALTER TABLE {table} RENAME TO {before}")  # nobody reads or writes it from here on
    op.execute(f"ALTER INDEX pk_{table} RENAME TO pk_{before}")
    op.execute(f"ALTER INDEX {index} RENAME TO {index}_before")
    op.execute(f"CREATE TABLE {table} (LIKE {before} INCLUDING DEFAULTS) PARTITION BY RANGE (ts)")
    op.execute(f"ALTER TABLE {table} ADD CONSTRAINT pk_{table} PRIMARY KEY ({', '.join(key)})")
    op.execute(f"CREATE INDEX {index} ON {table} (node_id, ts)")
    op.execute(f"CREATE TABLE {rest} PARTITION OF {table} DEFAULT")
    _attach(table, before, rest)


def _attach(table: str, before: str, rest: str) -> None:
    connection = op.get_bind()
    if connection.scalar(sa.text(f"SELECT max(ts) FROM {before}")) is None:  # noqa: S608
        op.execute(f"DROP TABLE {before}")
        return
    end_ts = (int(time.time()) // _WEEK_S + 1) * _WEEK_S
    # of a clock that was wrong: as first partition the table would have no end
    moved = f"DELETE FROM {before} WHERE ts >= {end_ts} RETURNING *"  # noqa: S608
    op.execute(f"WITH moved AS ({moved}) INSERT INTO {rest} SELECT * FROM moved")  # noqa: S608
    # with the constraint the next two statements read no row
    op.execute(f"ALTER TABLE {before} ADD CONSTRAINT ck_{before} CHECK (ts < {end_ts})")
    op.execute(f"ALTER TABLE {table} ATTACH PARTITION {before} FOR VALUES FROM (MINVALUE) TO ({end_ts})")
    op.execute(f"ALTER TABLE {before} DROP CONSTRAINT ck_{before}")
