"""Result lines in partitions by time, on PostgreSQL; their time becomes part of their key, on both.

The table becomes the first partition as it is: no row is copied. PostgreSQL reads it once, to know that it holds no row
of another partition, and builds the index of the key anew; who stores lines waits meanwhile.
"""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

_WEEK_S = 7 * 86_400
_TABLE, _BEFORE, _REST = "inference_results", "inference_results_before", "inference_results_rest"
_KEY = "run_id, seq, ts"


def upgrade() -> None:
    """Widen the key; on PostgreSQL put the table in the place of its first partition."""
    if op.get_bind().dialect.name == "sqlite":
        _declare()
        return
    _set_aside()
    op.execute(f"CREATE TABLE {_TABLE} (LIKE {_BEFORE} INCLUDING DEFAULTS) PARTITION BY RANGE (ts)")
    op.execute(f"ALTER TABLE {_TABLE} ADD CONSTRAINT pk_{_TABLE} PRIMARY KEY ({_KEY})")
    op.execute(f"CREATE INDEX ix_{_TABLE}_ts ON {_TABLE} (ts)")
    op.execute(f"CREATE TABLE {_REST} PARTITION OF {_TABLE} DEFAULT")
    _attach()


def _declare() -> None:
    """Change what the table is declared as: a row is stored as before, for ``ts`` comes behind the key in it anyway.

    Source: fileformat2.html, "Representation Of SQL Tables" (WITHOUT ROWID) and "Representation Of SQL Indices": a row
    is the columns of the key in its order, then the others; an entry of ``ix_inference_results_ts`` is ``ts``, then
    what is left of the key. Both stay what they were. To make the table anew would copy every row.
    """
    connection = op.get_bind()
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar()
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    connection.exec_driver_sql(
        "UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE type = 'table' AND name = ?",
        ("PRIMARY KEY (run_id, seq)", f"PRIMARY KEY ({_KEY})", _TABLE),
    )
    connection.exec_driver_sql(f"PRAGMA schema_version = {int(version or 0) + 1}")  # other connections read it anew
    connection.exec_driver_sql("PRAGMA writable_schema = RESET")


def _set_aside() -> None:
    op.execute(f"ALTER TABLE {_TABLE} RENAME TO {_BEFORE}")  # nobody reads or writes it from here on
    op.execute(f"ALTER INDEX ix_{_TABLE}_ts RENAME TO ix_{_BEFORE}_ts")
    op.execute(f"ALTER TABLE {_BEFORE} DROP CONSTRAINT pk_{_TABLE}")


def _attach() -> None:
    connection = op.get_bind()
    if connection.scalar(sa.text(f"SELECT max(ts) FROM {_BEFORE}")) is None:  # noqa: S608
        op.execute(f"DROP TABLE {_BEFORE}")
        return
    end_ts = (int(time.time()) // _WEEK_S + 1) * _WEEK_S
    # of a clock that was wrong: as first partition the table would have no end
    moved = f"DELETE FROM {_BEFORE} WHERE ts >= {end_ts} RETURNING *"  # noqa: S608
    op.execute(f"WITH moved AS ({moved}) INSERT INTO {_REST} SELECT * FROM moved")  # noqa: S608
    op.execute(f"ALTER TABLE {_BEFORE} ADD CONSTRAINT pk_{_BEFORE} PRIMARY KEY ({_KEY})")
    # with the constraint the next statement reads no row
    op.execute(f"ALTER TABLE {_BEFORE} ADD CONSTRAINT ck_{_BEFORE} CHECK (ts < {end_ts})")
    op.execute(f"ALTER TABLE {_TABLE} ATTACH PARTITION {_BEFORE} FOR VALUES FROM (MINVALUE) TO ({end_ts})")
    op.execute(f"ALTER TABLE {_BEFORE} DROP CONSTRAINT ck_{_BEFORE}")
