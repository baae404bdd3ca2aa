"""Identities: who was seen where and when, as far as looks tell."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "identity_galleries",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("next_id", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_identity_galleries"),
    )
    op.create_table(
        "identities",
        sa.Column("gallery", sa.String(length=63), nullable=False),
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("describer", sa.String(length=80), nullable=False),
        sa.Column("ts", sa.BigInteger(), nullable=False),
        sa.Column("end_ts", sa.BigInteger(), nullable=False),
        sa.Column("visits", sa.Integer(), nullable=False),
        sa.Column("nodes", sa.Integer(), nullable=False),
        sa.Column("sightings", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("gallery", "id", name="pk_identities"),
    )
    op.create_index("ix_identities_gallery_end_ts", "identities", ["gallery", "end_ts"], unique=False)
    op.create_table(
        "identity_visits",
        sa.Column("gallery", sa.String(length=63), nullable=False),
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("track", sa.String(length=255), nullable=False),
        sa.Column("identity_id", sa.Integer(), nullable=False),
        sa.Column("node_id", sa.Integer(), nullable=False),
        sa.Column("ts", sa.BigInteger(), nullable=False),
        sa.Column("end_ts", sa.BigInteger(), nullable=False),
        sa.Column("sightings", sa.BigInteger(), nullable=False),
        sa.Column("similarity", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("gallery", "run_id", "track", name="pk_identity_visits"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_identity_visits_gallery_identity_id", "identity_visits", ["gallery", "identity_id", "ts"], unique=False
    )
    op.create_index("ix_identity_visits_ts", "identity_visits", ["ts"], unique=False)
    op.create_table(
        "identity_cursors",
        sa.Column("gallery", sa.String(length=63), nullable=False),
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("started_ts", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("gallery", "run_id", name="pk_identity_cursors"),
    )
