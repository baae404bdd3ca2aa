"""Rollups of a day, and indexes with which PostgreSQL reads rollups of all nodes without their rows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

_DAY_S = 86_400
_ROLLUPS = ("node_samples_5m", "node_samples_1h", "node_samples_1d")
_FLEET = (
    "up_ratio",
    "cpu_usage_ratio_avg",
    "network_receive_bytes_per_s_avg",
    "network_transmit_bytes_per_s_avg",
    "temperature_celsius_max",
)
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
    """Create the table, note every day that has hours, create the indexes."""
    _create_rollup("node_samples_1d")
    _note_days()
    op.create_index("ix_sweeps_ts", "sweeps", ["ts"], unique=False)
    if op.get_bind().dialect.name != "postgresql":
        return
    for name in _ROLLUPS:
        op.execute(
            f"ALTER TABLE {name} SET"
            " (autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 50000)"
        )
        op.create_index(f"ix_{name}_fleet", name, ["ts", "node_id"], unique=False, postgresql_include=_FLEET)


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


def _note_days() -> None:
    """Note the days one by one, each found by a look into an index."""
    connection = op.get_bind()
    note = sa.text("INSERT INTO rollup_notes (rollup, ts) VALUES ('node_samples_1d', :ts)")
    next_ts = sa.text("SELECT min(ts) FROM node_samples_1h WHERE ts >= :ts")
    found = connection.scalar(next_ts, {"ts": 0})
    while found is not None:
        day = found - found % _DAY_S
        connection.execute(note, {"ts": day})
        found = connection.scalar(next_ts, {"ts": day + _DAY_S})
