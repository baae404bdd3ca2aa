"""Anomalies of nodes: when they began and ended."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "node_anomalies",
        sa.Column("node_id", sa.Integer, sa.ForeignKey("nodes.id", name="fk_node_anomalies_node_id"), nullable=False),
        sa.Column("what", sa.String(32), nullable=False),
        sa.Column("ts", sa.BigInteger, nullable=False),
        sa.Column("end_ts", sa.BigInteger),
        sa.Column("value", sa.Float, nullable=False),
        sa.Column("score", sa.Float, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("node_id", "what", "ts", name="pk_node_anomalies"),
    )
    is_open = sa.text("end_ts IS NULL")
    op.create_index(
        "uq_node_anomalies_open",
        "node_anomalies",
        ["node_id", "what"],
        unique=True,
        sqlite_where=is_open,
        postgresql_where=is_open,
    )
