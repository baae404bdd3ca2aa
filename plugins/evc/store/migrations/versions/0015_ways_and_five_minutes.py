"""What long ranges of results are drawn from: runs by five minutes, lines by their kind, ways between nodes,
and events by their node."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

_LATENCIES = (
    *("1", "1_25", "1_6", "2", "2_5", "3_15", "4", "5", "6_3", "8"),
    *("10", "12_5", "16", "20", "25", "31_5", "40", "50", "63", "80"),
    *("100", "125", "160", "200", "250", "315", "400", "500", "630", "800"),
    *("1000", "1250", "1600", "2000", "2500", "3150", "4000", "5000", "6300", "8000", "10000"),
)
_WAYS = """
    UPDATE identity_visits SET from_node_id = came.from_node_id, left_ts = came.left_ts
    FROM (
        SELECT gallery, run_id, track, node_id, lag(node_id) OVER way AS from_node_id, lag(end_ts) OVER way AS left_ts
        FROM identity_visits
        WINDOW way AS (PARTITION BY gallery, identity_id ORDER BY ts, end_ts, run_id, track)
    ) AS came
    WHERE identity_visits.gallery = came.gallery AND identity_visits.run_id = came.run_id
        AND identity_visits.track = came.track AND came.from_node_id <> came.node_id
"""


def upgrade() -> None:
    """Create the table, note the hours that have lines, fill the columns of visits, change indexes."""
    op.create_table(
        "inference_runs_5m",
        sa.Column("ts", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("node_id", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("lines", sa.Integer(), nullable=False),
        sa.Column("errors", sa.Integer(), nullable=False),
        sa.Column("frames", sa.Integer(), nullable=False),
        *(sa.Column(f"latency_to_{bound}_ms", sa.Integer(), nullable=True) for bound in _LATENCIES),
        sa.Column("latency_above_ms", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("ts", "run_id", name="pk_inference_runs_5m"),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO rollup_notes (rollup, ts)"
        " SELECT DISTINCT 'inference_results_1h', ts - ts % 3600 FROM inference_results"
    )
    op.drop_index("ix_inference_results_failed", "inference_results")
    op.create_index("ix_inference_results_kind_ts", "inference_results", ["kind", "ts"], unique=False)
    op.add_column("identity_visits", sa.Column("from_node_id", sa.Integer(), nullable=True))
    op.add_column("identity_visits", sa.Column("left_ts", sa.BigInteger(), nullable=True))
    op.execute(_WAYS)
    op.drop_index("ix_identity_visits_ts", "identity_visits")
    op.create_index("ix_node_events_node_id_ts", "node_events", ["node_id", "ts"], unique=False)
    op.create_index("ix_identity_visits_gallery_ts", "identity_visits", ["gallery", "ts"], unique=False)
