"""Rollups of result lines over an hour; of what is there the next rounds of maintain_metrics make them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

_LATENCIES = (
    *("1", "1_25", "1_6", "2", "2_5", "3_15", "4", "5", "6_3", "8"),
    *("10", "12_5", "16", "20", "25", "31_5", "40", "50", "63", "80"),
    *("100", "125", "160", "200", "250", "315", "400", "500", "630", "800"),
    *("1000", "1250", "1600", "2000", "2500", "3150", "4000", "5000", "6300", "8000", "10000"),
)


def upgrade() -> None:
    """Create the tables and the index of errors, and note the hours that have lines."""
    op.create_table(
        "inference_runs_1h",
        *_of_run(),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("lines", sa.Integer(), nullable=False),
        sa.Column("errors", sa.Integer(), nullable=False),
        sa.Column("frames", sa.Integer(), nullable=False),
        *(sa.Column(f"latency_to_{bound}_ms", sa.Integer(), nullable=True) for bound in _LATENCIES),
        sa.Column("latency_above_ms", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("ts", "run_id", name="pk_inference_runs_1h"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "inference_results_1h",
        *_of_run(),
        sa.Column("kind", sa.String(length=63), nullable=False),
        sa.Column("lines", sa.Integer(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("value_count", sa.Integer(), nullable=False),
        sa.Column("value_sum", sa.Float(), nullable=True),
        sa.Column("value_min", sa.Float(), nullable=True),
        sa.Column("value_max", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("ts", "run_id", "kind", name="pk_inference_results_1h"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_inference_results_1h_kind_ts", "inference_results_1h", ["kind", "ts"], unique=False)
    failed = sa.text("kind IN ('error', 'malformed')")
    op.create_index(
        "ix_inference_results_failed", "inference_results", ["ts"], sqlite_where=failed, postgresql_where=failed
    )
    op.execute(
        "INSERT INTO rollup_notes (rollup, ts)"
        " SELECT DISTINCT 'inference_results_1h', ts - ts % 3600 FROM inference_results"
    )


def _of_run() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("ts", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("node_id", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
    )
