"""Looks at registries: what became of the last one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "registry_checks",
        sa.Column("address", sa.String(length=255), nullable=False),
        sa.Column("checked_ts", sa.BigInteger(), nullable=False),
        sa.Column("answered_ts", sa.BigInteger(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("certificate_expires_ts", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("address", name="pk_registry_checks"),
    )
