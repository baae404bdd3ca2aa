"""Which events people were told of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "event_notices",
        sa.Column("ts", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("node_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("claimed_ts", sa.BigInteger(), nullable=False),
        sa.Column("sent_ts", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_event_notices_node_id"),
        sa.PrimaryKeyConstraint("ts", "node_id", "kind", name="pk_event_notices"),
    )
