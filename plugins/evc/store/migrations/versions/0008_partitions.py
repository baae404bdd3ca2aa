"""The tables that grow by the minute in partitions by time, on PostgreSQL. SQLite has none: nothing changes there.

A table that holds rows becomes the first partition as it is, with its indexes: no row is copied. PostgreSQL reads it
once, to know that it holds no row of another partition; that takes about a minute for a hundred million rows, and
sweeps go to the spool meanwhile.
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
_INDEXES = {"node_samples": {"ix_node_samples_node_id_ts": "node_id, ts"}}


def upgrade() -> None:
    """Put each table in the place of its first partition."""
    if op.get_bind().dialect.name != "postgresql":
        return
    for table, key in _KEYS.items():
        _partition(table, key)


def _partition(table: str, key: tuple[str, ...]) -> None:
    indexes = _INDEXES.get(table, {})
    before, rest = f"{table}_before", f"{table}_rest"
    op.execute(f"ALTER TABLE {table} RENAME TO {before}")  # nobody reads or writes it from here on
    op.execute(f"ALTER INDEX pk_{table} RENAME TO pk_{before}")
    for name in indexes:
        op.execute(f"ALTER INDEX {name} RENAME TO {name}_before")
    op.execute(f"CREATE TABLE {table} (LIKE {before} INCLUDING DEFAULTS) PARTITION BY RANGE (ts)")
    op.execute(f"ALTER TABLE {table} ADD CONSTRAINT pk_{table} PRIMARY KEY ({', '.join(key)})")
    for name, columns in indexes.items():
        op.execute(f"CREATE INDEX {name} ON {table} ({columns})")
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
