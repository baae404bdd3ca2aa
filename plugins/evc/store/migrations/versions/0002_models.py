"""Models, their images and builds, roll-outs and what runs where, inference and its results."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "inference_results",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("ts", sa.BigInteger(), nullable=False),
        sa.Column("node_id", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("kind", sa.String(length=63), nullable=False),
        sa.Column("label", sa.String(length=255), nullable=True),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("latency_ms", sa.Float(), nullable=True),
        sa.Column("payload", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "seq", name="pk_inference_results"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_inference_results_ts", "inference_results", ["ts"], unique=False)
    op.create_table(
        "models",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("task", sa.String(length=63), nullable=False),
        sa.Column("version", sa.String(length=128), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("source_revision", sa.String(length=80), nullable=False),
        sa.Column("updated_ts", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_models"),
    )
    op.create_table(
        "registry_images",
        sa.Column("repository", sa.String(length=255), nullable=False),
        sa.Column("tag", sa.String(length=128), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("platform", sa.String(length=64), nullable=True),
        sa.Column("created_ts", sa.BigInteger(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("source_revision", sa.String(length=80), nullable=True),
        sa.Column("first_seen_ts", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_ts", sa.BigInteger(), nullable=False),
        sa.Column("gone_ts", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("repository", "tag", "digest", name="pk_registry_images"),
    )
    op.create_index("ix_registry_images_digest", "registry_images", ["digest"], unique=False)
    op.create_table(
        "rollouts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(length=250), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("repository", sa.String(length=255), nullable=False),
        sa.Column("tag", sa.String(length=128), nullable=True),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("layers", sa.JSON(), nullable=True),
        sa.Column("waves", sa.JSON(), nullable=False),
        sa.Column("success_threshold", sa.Float(), nullable=False),
        sa.Column("error_threshold", sa.Float(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("command", sa.String(length=16), nullable=True),
        sa.Column("deadline_ts", sa.BigInteger(), nullable=False),
        sa.Column("created_ts", sa.BigInteger(), nullable=False),
        sa.Column("finished_ts", sa.BigInteger(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_rollouts"),
        sa.UniqueConstraint("run_id", name="uq_rollouts_run_id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_rollouts_unfinished",
        "rollouts",
        ["model"],
        unique=True,
        sqlite_where=sa.text("finished_ts IS NULL"),
        postgresql_where=sa.text("finished_ts IS NULL"),
    )
    op.create_table(
        "assignments",
        sa.Column("node_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("repository", sa.String(length=255), nullable=False),
        sa.Column("tag", sa.String(length=128), nullable=True),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("rollout_id", sa.Integer(), nullable=True),
        sa.Column("ts", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("running_digest", sa.String(length=80), nullable=True),
        sa.Column("container_id", sa.String(length=64), nullable=True),
        sa.Column("checked_ts", sa.BigInteger(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_assignments_node_id"),
        sa.PrimaryKeyConstraint("node_id", "model", name="pk_assignments"),
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "builds",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(length=250), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("version", sa.String(length=128), nullable=False),
        sa.Column("repository", sa.String(length=255), nullable=False),
        sa.Column("tag", sa.String(length=128), nullable=False),
        sa.Column("platform", sa.String(length=64), nullable=False),
        sa.Column("builder_id", sa.Integer(), nullable=False),
        sa.Column("source_revision", sa.String(length=80), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("started_ts", sa.BigInteger(), nullable=False),
        sa.Column("finished_ts", sa.BigInteger(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_builds"),
        sa.UniqueConstraint("run_id", name="uq_builds_run_id"),
        sa.ForeignKeyConstraint(["builder_id"], ["nodes.id"], name="fk_builds_builder_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_builds_digest", "builds", ["digest"], unique=False)
    op.create_index("ix_builds_model_started_ts", "builds", ["model", "started_ts"], unique=False)
    op.create_table(
        "inference_runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(length=250), nullable=False),
        sa.Column("node_id", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("input", sa.Text(), nullable=True),
        sa.Column("container_id", sa.String(length=64), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("oom_killed", sa.Boolean(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("started_ts", sa.BigInteger(), nullable=False),
        sa.Column("finished_ts", sa.BigInteger(), nullable=True),
        sa.Column("lines", sa.BigInteger(), nullable=False),
        sa.Column("cursor", sa.Text(), nullable=True),
        sa.Column("frames", sa.BigInteger(), nullable=True),
        sa.Column("results", sa.BigInteger(), nullable=True),
        sa.Column("errors", sa.BigInteger(), nullable=True),
        sa.Column("malformed", sa.BigInteger(), nullable=True),
        sa.Column("frames_per_s", sa.Float(), nullable=True),
        sa.Column("latency_p50_ms", sa.Float(), nullable=True),
        sa.Column("latency_p95_ms", sa.Float(), nullable=True),
        sa.Column("latency_p99_ms", sa.Float(), nullable=True),
        sa.Column("temperature_max_celsius", sa.Float(), nullable=True),
        sa.Column("cpu_usage_avg_ratio", sa.Float(), nullable=True),
        sa.Column("throttled", sa.SmallInteger(), nullable=True),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_inference_runs_node_id"),
        sa.PrimaryKeyConstraint("id", name="pk_inference_runs"),
        postgresql_with={"fillfactor": 50},
        sqlite_autoincrement=True,
    )
    op.create_index("ix_inference_runs_started_ts", "inference_runs", ["started_ts"], unique=False)
    op.create_index("uq_inference_runs_run_id_node_id", "inference_runs", ["run_id", "node_id"], unique=True)
    op.create_table(
        "rollout_nodes",
        sa.Column("rollout_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("node_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("wave", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("bytes_total", sa.BigInteger(), nullable=True),
        sa.Column("bytes_done", sa.BigInteger(), nullable=True),
        sa.Column("rate_bytes_per_s", sa.Float(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("previous_digest", sa.String(length=80), nullable=True),
        sa.Column("previous_repository", sa.String(length=255), nullable=True),
        sa.Column("previous_spec", sa.JSON(), nullable=True),
        sa.Column("container_id", sa.String(length=64), nullable=True),
        sa.Column("started_ts", sa.BigInteger(), nullable=True),
        sa.Column("finished_ts", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["rollout_id"], ["rollouts.id"], name="fk_rollout_nodes_rollout_id"),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_rollout_nodes_node_id"),
        sa.PrimaryKeyConstraint("rollout_id", "node_id", name="pk_rollout_nodes"),
        postgresql_with={"fillfactor": 50},
    )
    op.create_index("ix_rollout_nodes_node_id", "rollout_nodes", ["node_id"], unique=False)
