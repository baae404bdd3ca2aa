from __future__ import annotations

import random
import string
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, Index, insert, select, text

from evc.store.database import HEAD, MIGRATIONS, REVISIONS, VERSION_TABLE, open_engine, upgrade
from evc.store.tables import REST, builds, inference_runs, metadata, rollouts, scenario_runs, sweeps
from tests.store.batches import TS, add_nodes

SQLITE_SCHEMA = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
POSTGRES_SCHEMA = """
    SELECT relname, concat(reloptions::text, pg_get_partkeydef(oid), pg_get_expr(relpartbound, oid)) FROM pg_class
    WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace
    UNION ALL SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace
"""


def _schema(engine: Engine) -> dict[str, Any]:
    query = SQLITE_SCHEMA if engine.dialect.name == "sqlite" else POSTGRES_SCHEMA
    with engine.connect() as connection:
        found = {name: str(sql) for name, sql in connection.execute(text(query))}
    return {name: "".join(sql.split()) for name, sql in found.items() if VERSION_TABLE not in name}


def _is_no_partition(name: str | None, kind: str, parents: object) -> bool:
    """The next test sees those: Alembic takes them for tables of their own."""
    return not (kind == "table" and str(name).endswith(REST))


def _is_of_this_database(thing: Any, name: str | None, kind: str, reflected: bool, other: object) -> bool:
    """Indexes that only PostgreSQL has: the next test sees those too."""
    del kind, reflected, other
    return not (isinstance(thing, Index) and str(name).endswith("_fleet"))


@pytest.mark.filterwarnings("ignore:.*uq_nodes_address")  # the next test sees it
def test_migrations_make_exactly_the_tables(engine: Engine) -> None:
    with engine.connect() as connection:
        opts = {
            "version_table": VERSION_TABLE,
            "include_name": _is_no_partition,
            "include_object": _is_of_this_database,
        }
        context = MigrationContext.configure(connection, opts=opts)
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


# -- 0005 ------------------------------------------------------------------------------------------------------------

_DIGEST = f"sha256:{'a' * 64}"
_RUNS: dict[Any, dict[str, Any]] = {
    builds: {
        "model": "m", "version": "1", "repository": "m", "tag": "1", "platform": "linux/amd64", "builder_id": 1,
        "source_revision": "sha256:s", "spec": {}, "status": "failed", "started_ts": TS,
    },
    rollouts: {
        "model": "m", "repository": "m", "digest": _DIGEST, "spec": {}, "waves": [1], "success_threshold": 90,
        "error_threshold": 10, "status": "failed", "deadline_ts": TS, "created_ts": TS, "finished_ts": TS,
    },
    inference_runs: {
        "node_id": 1, "model": "m", "digest": _DIGEST, "mode": "once", "status": "failed", "started_ts": TS, "lines": 0,
    },
    scenario_runs: {
        "scenario": "m", "content": "", "model": "m", "nodes": [], "status": "failed", "started_ts": TS,
    },
}  # fmt: skip
"""By table, what a row needs beside its key."""
_SWEEP = {
    "shard": 0, "ts": TS, "duration_s": 1.0, "nodes_up": 1, "nodes_down": 0, "rows_written": 1, "missed_ticks": 0,
}  # fmt: skip


def _longest_key() -> str:
    """Return a key of ids as long as Airflow allows, which no index can compress."""
    draw = random.Random(5).choices
    dag_id, task_id, run_id = ("".join(draw(string.ascii_letters + string.digits, k=250)) for _ in range(3))
    return f"{dag_id}.{task_id} {run_id}"


def test_a_database_that_is_there_takes_the_longest_keys_and_keeps_its_rows(empty_url: str) -> None:
    engine = open_engine(empty_url)
    if engine.dialect.name == "sqlite":
        Path(str(engine.url.database)).touch()
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(MIGRATIONS))
        command.upgrade(config, "0004")
    with engine.begin() as connection:
        add_nodes(connection, 1)
        for table, row in _RUNS.items():
            connection.execute(insert(table).values({**row, "run_id": "manual__1"}))
        connection.execute(insert(sweeps).values({**_SWEEP, "run_id": "manual__1"}))
    assert upgrade(engine) == ("0004", HEAD)
    key = _longest_key()
    assert len(key) == 752
    with engine.begin() as connection:
        for table, row in _RUNS.items():
            connection.execute(insert(table).values({**row, "run_id": key}))
            found = connection.execute(select(table.c.id, table.c.run_id).order_by(table.c.id)).all()
            assert [tuple(it) for it in found] == [(1, "manual__1"), (2, key)]
        connection.execute(insert(sweeps).values({**_SWEEP, "run_id": key}))
        assert set(connection.execute(select(sweeps.c.run_id)).scalars()) == {"manual__1", key}
        if engine.dialect.name == "sqlite":
            assert connection.execute(text("PRAGMA integrity_check")).scalar() == "ok"
    engine.dispose()
