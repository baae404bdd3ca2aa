"""Approvals of waves: asked for once, unless a node fails later."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "rollout_approvals",
        sa.Column("rollout_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("wave", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("failed", sa.JSON(), nullable=False),
        sa.Column("asked_ts", sa.BigInteger(), nullable=False),
        sa.Column("approved_ts", sa.BigInteger(), nullable=True),
        sa.Column("approved_by", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["rollout_id"], ["rollouts.id"], name="fk_rollout_approvals_rollout_id"),
        sa.PrimaryKeyConstraint("rollout_id", "wave", name="pk_rollout_approvals"),
    )
