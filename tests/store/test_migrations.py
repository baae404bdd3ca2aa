from __future__ import annotations

from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text

from evc.store.database import HEAD, MIGRATIONS, REVISIONS, VERSION_TABLE, open_engine, upgrade
from evc.store.tables import metadata

SQLITE_SCHEMA = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
POSTGRES_SCHEMA = """
    SELECT relname, reloptions::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
    UNION ALL SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace
"""


def _schema(engine: Engine) -> dict[str, Any]:
    query = SQLITE_SCHEMA if engine.dialect.name == "sqlite" else POSTGRES_SCHEMA
    with engine.connect() as connection:
        found = {name: str(sql) for name, sql in connection.execute(text(query))}
    return {name: "".join(sql.split()) for name, sql in found.items() if VERSION_TABLE not in name}


@pytest.mark.filterwarnings("ignore:.*uq_nodes_address")  # the next test sees it
def test_migrations_make_exactly_the_tables(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, metadata) == []


def test_migrations_make_the_same_indexes_and_storage(engine: Engine) -> None:
    """What the comparison above does not see: indexes of expressions, WITHOUT ROWID, fillfactor, conditions."""
    migrated = _schema(engine)
    with engine.begin() as connection:
        connection.execute(text(f"DROP TABLE {VERSION_TABLE}"))
        metadata.drop_all(connection)
        metadata.create_all(connection)
    assert migrated == _schema(engine)
    assert "uq_nodes_address" in migrated


def test_revisions_are_one_chain_of_file_names() -> None:
    """check_schema reads them from the names, without Alembic."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    chain = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(chain)) == REVISIONS
    assert chain[0] == HEAD


def test_the_version_table_is_ours_alone(empty_url: str) -> None:
    engine = open_engine(empty_url)
    upgrade(engine)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM evc_schema")).scalars().all() == [HEAD]
    engine.dispose()
