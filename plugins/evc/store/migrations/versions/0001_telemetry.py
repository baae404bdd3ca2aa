"""The first tables: nodes, what was sampled of them, what happened to them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "geocodes",
        sa.Column("address", sa.String(length=500), nullable=False),
        sa.Column("latitude", sa.Float(), nullable=False),
        sa.Column("longitude", sa.Float(), nullable=False),
        sa.Column("source", sa.String(length=20), nullable=False),
        sa.Column("ts", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("address", name="pk_geocodes"),
    )
    op.create_table(
        "network_samples",
        sa.Column("ts", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("node_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("interface", sa.String(length=64), nullable=False),
        sa.Column("receive_bytes_per_s", sa.Float(), nullable=True),
        sa.Column("transmit_bytes_per_s", sa.Float(), nullable=True),
        sa.Column("receive_errors_per_s", sa.Float(), nullable=True),
        sa.Column("transmit_errors_per_s", sa.Float(), nullable=True),
        sa.Column("receive_drops_per_s", sa.Float(), nullable=True),
        sa.Column("transmit_drops_per_s", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("ts", "node_id", "interface", name="pk_network_samples"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "node_samples",
        sa.Column("ts", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("node_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("up", sa.SmallInteger(), nullable=False),
        sa.Column("sweep_duration_s", sa.Float(), nullable=True),
        sa.Column("uptime_s", sa.Float(), nullable=True),
        sa.Column("cpu_usage_ratio", sa.Float(), nullable=True),
        sa.Column("cpu_iowait_ratio", sa.Float(), nullable=True),
        sa.Column("cpu_steal_ratio", sa.Float(), nullable=True),
        sa.Column("load1", sa.Float(), nullable=True),
        sa.Column("load5", sa.Float(), nullable=True),
        sa.Column("load15", sa.Float(), nullable=True),
        sa.Column("memory_total_bytes", sa.BigInteger(), nullable=True),
        sa.Column("memory_free_bytes", sa.BigInteger(), nullable=True),
        sa.Column("memory_available_bytes", sa.BigInteger(), nullable=True),
        sa.Column("swap_total_bytes", sa.BigInteger(), nullable=True),
        sa.Column("swap_free_bytes", sa.BigInteger(), nullable=True),
        sa.Column("storage_total_bytes", sa.BigInteger(), nullable=True),
        sa.Column("storage_used_bytes", sa.BigInteger(), nullable=True),
        sa.Column("storage_available_bytes", sa.BigInteger(), nullable=True),
        sa.Column("network_receive_bytes_per_s", sa.Float(), nullable=True),
        sa.Column("network_transmit_bytes_per_s", sa.Float(), nullable=True),
        sa.Column("temperature_celsius", sa.Float(), nullable=True),
        sa.Column("gpu_usage_ratio", sa.Float(), nullable=True),
        sa.Column("throttled", sa.SmallInteger(), nullable=True),
        sa.Column("throttled_since_boot", sa.SmallInteger(), nullable=True),
        sa.Column("pressure_cpu_ratio", sa.Float(), nullable=True),
        sa.Column("pressure_memory_ratio", sa.Float(), nullable=True),
        sa.Column("pressure_io_ratio", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("ts", "node_id", name="pk_node_samples"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_node_samples_node_id_ts", "node_samples", ["node_id", "ts"], unique=False)
    op.create_table(
        "nodes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("host", sa.String(length=253), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("user", sa.String(length=32), nullable=True),
        sa.Column("conn_id", sa.String(length=250), nullable=False),
        sa.Column("jump_node", sa.String(length=63), nullable=True),
        sa.Column("host_key", sa.Text(), nullable=True),
        sa.Column("groups", sa.JSON(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("thermal_unit", sa.String(length=20), nullable=False),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("latitude", sa.Float(), nullable=True),
        sa.Column("longitude", sa.Float(), nullable=True),
        sa.Column("location_source", sa.String(length=20), nullable=True),
        sa.Column("arch", sa.String(length=32), nullable=True),
        sa.Column("os", sa.Text(), nullable=True),
        sa.Column("kernel", sa.Text(), nullable=True),
        sa.Column("board_model", sa.Text(), nullable=True),
        sa.Column("cpu_count", sa.Integer(), nullable=True),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("engine_version", sa.Text(), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("registered_ts", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_ts", sa.BigInteger(), nullable=True),
        sa.Column("removed_ts", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_nodes"),
        postgresql_with={"fillfactor": 50},
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_nodes_name",
        "nodes",
        ["name"],
        unique=True,
        sqlite_where=sa.text("removed_ts IS NULL"),
        postgresql_where=sa.text("removed_ts IS NULL"),
    )
    op.create_index(
        "uq_nodes_address",
        "nodes",
        ["host", "port", sa.text("coalesce(jump_node, '')")],
        unique=True,
        sqlite_where=sa.text("removed_ts IS NULL"),
        postgresql_where=sa.text("removed_ts IS NULL"),
    )
    op.create_table(
        "storage_samples",
        sa.Column("ts", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("node_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("mountpoint", sa.String(length=255), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("filesystem", sa.String(length=32), nullable=True),
        sa.Column("total_bytes", sa.BigInteger(), nullable=True),
        sa.Column("used_bytes", sa.BigInteger(), nullable=True),
        sa.Column("available_bytes", sa.BigInteger(), nullable=True),
        sa.Column("inodes_total", sa.BigInteger(), nullable=True),
        sa.Column("inodes_free", sa.BigInteger(), nullable=True),
        sa.Column("read_only", sa.Boolean(), nullable=True),
        sa.PrimaryKeyConstraint("ts", "node_id", "mountpoint", name="pk_storage_samples"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "sweeps",
        sa.Column("run_id", sa.String(length=250), nullable=False),
        sa.Column("shard", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("ts", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("duration_s", sa.Float(), nullable=False),
        sa.Column("nodes_up", sa.Integer(), nullable=False),
        sa.Column("nodes_down", sa.Integer(), nullable=False),
        sa.Column("rows_written", sa.Integer(), nullable=False),
        sa.Column("missed_ticks", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "shard", "ts", name="pk_sweeps"),
    )
    op.create_table(
        "temperature_samples",
        sa.Column("ts", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("node_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("zone", sa.String(length=64), nullable=False),
        sa.Column("celsius", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("ts", "node_id", "zone", name="pk_temperature_samples"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "node_events",
        sa.Column("ts", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("node_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("severity", sa.String(length=8), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_node_events_node_id"),
        sa.PrimaryKeyConstraint("ts", "node_id", "kind", name="pk_node_events"),
    )
    op.create_table(
        "node_readings",
        sa.Column("node_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("ts", sa.BigInteger(), nullable=False),
        sa.Column("boot_id", sa.String(length=64), nullable=True),
        sa.Column("uptime_s", sa.Float(), nullable=True),
        sa.Column("missed_sweeps", sa.Integer(), nullable=False),
        sa.Column("counters", sa.JSON(), nullable=False),
        sa.Column("failing", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_node_readings_node_id"),
        sa.PrimaryKeyConstraint("node_id", name="pk_node_readings"),
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "probe_runs",
        sa.Column("ts", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("node_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("probe", sa.String(length=32), nullable=False),
        sa.Column("success", sa.Boolean(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_probe_runs_node_id"),
        sa.PrimaryKeyConstraint("ts", "node_id", "probe", name="pk_probe_runs"),
    )
