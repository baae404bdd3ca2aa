"""Rollups of six hours, a day and a week, and indexes that answer without the rows.

Sweeps and the details of one node are read from an index that holds the values too; on PostgreSQL also rollups of all
nodes.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

_QUARTER_S = 21_600
_LONG = ("node_samples_6h", "node_samples_1d", "node_samples_7d")
_ROLLUPS = ("node_samples_5m", "node_samples_1h", *_LONG)
_FLEET = (
    "up_ratio",
    "cpu_usage_ratio_avg",
    "network_receive_bytes_per_s_avg",
    "network_transmit_bytes_per_s_avg",
    "temperature_celsius_max",
)
_SWEEPS = ["ts", "duration_s", "nodes_up", "nodes_down", "rows_written", "missed_ticks"]
_DETAILS = {
    "temperature_samples": ("zone", "celsius"),
    "network_samples": (
        "interface",
        "receive_bytes_per_s",
        "transmit_bytes_per_s",
        "receive_errors_per_s",
        "transmit_errors_per_s",
        "receive_drops_per_s",
        "transmit_drops_per_s",
    ),
}
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
    """Create the tables, note the buckets of all hours, create the indexes."""
    for name in _LONG:
        _create_rollup(name)
    _note_quarters()
    op.create_index("ix_sweeps_ts", "sweeps", _SWEEPS, unique=False)
    for name, columns in _DETAILS.items():
        op.drop_index(f"ix_{name}_node_id_ts", name)
        op.create_index(f"ix_{name}_node_id_ts", name, ["node_id", "ts", *columns], unique=False)
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


def _note_quarters() -> None:
    """Note the six hours that have hours, each found by a look into an index: the rest follows from them."""
    connection = op.get_bind()
    note = sa.text("INSERT INTO rollup_notes (rollup, ts) VALUES ('node_samples_6h', :ts)")
    next_ts = sa.text("SELECT min(ts) FROM node_samples_1h WHERE ts >= :ts")
    found = connection.scalar(next_ts, {"ts": 0})
    while found is not None:
        quarter = found - found % _QUARTER_S
        connection.execute(note, {"ts": quarter})
        found = connection.scalar(next_ts, {"ts": quarter + _QUARTER_S})
