"""Run by Alembic inside the transaction of :func:`evc.store.database.upgrade`."""

from __future__ import annotations

from alembic import context

from evc.store.database import VERSION_TABLE
from evc.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, version_table=VERSION_TABLE
)
with context.begin_transaction():
    context.run_migrations()
