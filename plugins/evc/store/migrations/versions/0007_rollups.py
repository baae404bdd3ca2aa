"""Rollups of node_samples, and notes of the buckets that are to be made anew: at first, all that there are."""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_BUCKET_S = 300
_LONGEST_RUN_S = 86_400
_ROWS_AT_ONCE = 5_000
_COLUMNS = (
    "sweep_duration_s",
    "cpu_usage_ratio",
    "cpu_iowait_ratio",
    "cpu_steal_ratio",
    "load1",
    "memory_available_bytes",
    "swap_free_bytes",
    "storage_used_bytes",
    "storage_available_bytes",
    "network_receive_bytes_per_s",
    "network_transmit_bytes_per_s",
    "temperature_celsius",
    "gpu_usage_ratio",
    "pressure_cpu_ratio",
    "pressure_memory_ratio",
    "pressure_io_ratio",
)


def upgrade() -> None:
    """Create the tables and note every bucket that has samples."""
    for name in ("node_samples_5m", "node_samples_1h"):
        _create_rollup(name)
    notes = op.create_table(
        "rollup_notes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("rollup", sa.String(length=32), nullable=False),
        sa.Column("ts", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rollup_notes"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_rollup_notes_rollup_ts", "rollup_notes", ["rollup", "ts"], unique=False)
    op.create_table(
        "history_marks",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("ts", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_history_marks"),
    )
    _note_all(notes)


def _create_rollup(name: str) -> None:
    op.create_table(
        name,
        sa.Column("ts", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("node_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("samples", sa.Integer(), nullable=False),
        sa.Column("up_ratio", sa.Float(), nullable=False),
        *(sa.Column(f"{column}_{what}", sa.Float()) for column in _COLUMNS for what in ("min", "avg", "max")),
        sa.Column("memory_total_bytes", sa.BigInteger(), nullable=True),
        sa.Column("swap_total_bytes", sa.BigInteger(), nullable=True),
        sa.Column("storage_total_bytes", sa.BigInteger(), nullable=True),
        sa.Column("uptime_s_min", sa.Float(), nullable=True),
        sa.Column("throttled_ratio", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("ts", "node_id", name=f"pk_{name}"),
        sqlite_with_rowid=False,
    )
    op.create_index(f"ix_{name}_node_id_ts", name, ["node_id", "ts"], unique=False)


def _note_all(notes: sa.Table) -> None:
    # from bucket to bucket, each a look into an index: reading all rows could take minutes
    connection = op.get_bind()
    next_ts = sa.text("SELECT min(ts) FROM node_samples WHERE ts >= :ts")
    rows: list[dict[str, object]] = []
    found = connection.scalar(sa.text("SELECT min(ts) FROM node_samples"))
    while found is not None:
        bucket = found - found % _BUCKET_S
        rows.append({"rollup": "node_samples_5m", "ts": bucket})
        found = connection.scalar(next_ts, {"ts": bucket + _BUCKET_S})
    if rows:
        # a run of the version before, which goes on for a day at most, leaves no notes
        now_ts = int(time.time())
        ahead = range(now_ts - now_ts % _BUCKET_S, now_ts + _LONGEST_RUN_S, _BUCKET_S)
        rows += [{"rollup": "node_samples_5m", "ts": ts} for ts in ahead]
    for begin in range(0, len(rows), _ROWS_AT_ONCE):
        connection.execute(sa.insert(notes), rows[begin : begin + _ROWS_AT_ONCE])
