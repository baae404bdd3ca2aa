from __future__ import annotations

import threading
import time
from concurrent.futures import Executor
from pathlib import Path

import pytest
from sqlalchemy import Engine, make_url, select, text
from sqlalchemy.exc import IntegrityError

from evc.errors import DatabaseError, InputError, SchemaMismatch
from evc.store.database import (
    HEAD,
    VERSION_TABLE,
    check_schema,
    embedded_url,
    open_engine,
    reporting,
    upgrade,
    url_from_connection,
)
from evc.store.tables import nodes
from tests.store.batches import store_with_nodes, upgrade_url

# -- where it is -------------------------------------------------------------------------------------------------------


def test_embedded_is_a_file_in_the_state_folder(tmp_path: Path) -> None:
    assert embedded_url(tmp_path) == f"sqlite:///{tmp_path}/metrics.db"


def test_embedded_opens_in_a_folder_of_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "상태 a?b#c%41&=;'"
    folder.mkdir()
    engine = open_engine(embedded_url(folder))
    upgrade(engine)
    engine.dispose()
    assert [path.name for path in folder.iterdir()] == ["metrics.db"]


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("sqlite:////var/lib/evc/metrics.db", "sqlite:////var/lib/evc/metrics.db"),
        ("sqlite:///%2Fvar%2Flib%2Fevc%2Fmetrics.db", "sqlite:////var/lib/evc/metrics.db"),
        ("sqlite://%2Fvar%2Flib%2Fevc%2Fmetrics.db", "sqlite:////var/lib/evc/metrics.db"),
        ("  sqlite:////m.db?timeout=60\n", "sqlite:////m.db?timeout=60"),
        ('{"conn_type": "sqlite", "host": "/srv/m.db"}', "sqlite:////srv/m.db"),
        (
            '{"conn_type": "sqlite", "schema": "/srv/m.db", "extra": "{\\"timeout\\": 5}"}',
            "sqlite:////srv/m.db?timeout=5",
        ),
        (
            "postgres://user:p%40ss@host:5432/db?sslmode=require",
            "postgresql+psycopg://user:p%40ss@host:5432/db?sslmode=require",
        ),
        ("postgresql://host/db", "postgresql+psycopg://host/db"),
        ("postgresql+psycopg://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
        ("postgres://u:p@[::1]:5433/d", "postgresql+psycopg://u:p@[::1]:5433/d"),
        ("postgres://u@%2Fvar%2Frun%2Fpostgresql/d", "postgresql+psycopg://u@/d?host=%2Fvar%2Frun%2Fpostgresql"),
        (
            "postgres://u:p@h/d?__extra__=%7B%22sslmode%22%3A+%22require%22%7D",
            "postgresql+psycopg://u:p@h/d?sslmode=require",
        ),
        (
            '{"conn_type":"postgres","host":"h","login":"u","password":"p@/:#","schema":"d","port":5432,'
            '"extra":{"sslmode":"require","connect_timeout":3}}',
            "postgresql+psycopg://u:p%40%2F%3A%23@h:5432/d?connect_timeout=3&sslmode=require",
        ),
    ],
)
def test_connection_to_url(value: str, url: str) -> None:
    assert make_url(url_from_connection(value)) == make_url(url)


HIDDEN = "hunter2"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", "neither a URI nor JSON"),
        (f"just {HIDDEN} words", "neither a URI nor JSON"),
        (f"mysql://u:{HIDDEN}@h/d", "its type 'mysql' is not known"),
        (f"postgres://u:{HIDDEN}/x@h/d", "its host and port can't be read"),
        (f"postgres://u:{HIDDEN}#x@h/d", "its host and port can't be read"),
        (f"postgres://u:{HIDDEN}@h/d#x", "holds a '#'"),
        (f"postgres://u:{HIDDEN}@[::1/d", "its host and port can't be read"),
        (f"postgres://u:{HIDDEN}@h:99999/d", "'99999' is not a port"),
        (f"postgres://u:{HIDDEN}@h:5432", "it names no database"),
        (f"postgres://u:{HIDDEN}@h/d?__extra__=nonsense", "'extra' is not a mapping"),
        (f'{{"password": "{HIDDEN}"', "not JSON"),
        (f'{{"password": "{HIDDEN}"}}', "its type '' is not known"),
        (
            f'{{"conn_type": "postgres", "password": "{HIDDEN}", "schema": "d", "extra": [1]}}',
            "'extra' is not a mapping",
        ),
        (
            f'{{"conn_type": "postgres", "password": "{HIDDEN}", "schema": "d", "extra": {{"a": {{}}}}}}',
            "'extra' is not",
        ),
        (f'{{"conn_type": "postgres", "password": "{HIDDEN}", "schema": "d", "port": "x"}}', "'x' is not a port"),
        ("sqlite:///metrics.db", "'metrics.db' is not an absolute path"),
        ("sqlite://", "'' is not an absolute path"),
        ("sqlite:///:memory:", "':memory:' is not an absolute path"),
        ("sqlite:////m.db?mode=ro", "option 'mode' is not known"),
    ],
)
def test_a_connection_that_describes_no_database(value: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        url_from_connection(value)
    line = str(caught.value)
    assert line.startswith("connection evc_metrics: ")
    assert said in line
    assert "; allowed: " in line
    assert "\n" not in line
    assert HIDDEN not in line


AIRFLOW_WRITES = [  # Airflow 3.3.2, get_uri() and as_json() of the same connection
    "postgres://evc:p%2F%40%3A%23%25@db.example:5432/evc?sslmode=require",
    '{"conn_type": "postgres", "host": "db.example", "login": "evc", "password": "p/@:#%", "schema": "evc", '
    '"port": 5432, "extra": {"sslmode": "require"}}',
]


@pytest.mark.parametrize("value", AIRFLOW_WRITES)
def test_what_airflow_writes_is_read(value: str) -> None:
    assert url_from_connection(value) == (
        "postgresql+psycopg://evc:p%2F%40%3A%23%25@db.example:5432/evc?sslmode=require"
    )


@pytest.mark.parametrize(
    "url", ["mysql://u:p@h/d", "nonsense", "sqlite://", "sqlite:///relative.db", "sqlite+aiosqlite"]
)
def test_open_engine_refuses_other_databases(url: str) -> None:
    with pytest.raises(InputError):
        open_engine(url)


def test_open_engine_does_not_connect() -> None:
    open_engine("sqlite:////nowhere/metrics.db")
    open_engine("postgresql+psycopg://u:p@127.0.0.1:1/d")


# -- opening it --------------------------------------------------------------------------------------------------------


def test_sqlite_is_set_up_for_several_processes(sqlite_engine: Engine) -> None:
    with sqlite_engine.connect() as connection:
        pragma = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "busy_timeout", "foreign_keys", "synchronous")
        }
    assert pragma == {"journal_mode": "wal", "busy_timeout": 30_000, "foreign_keys": 1, "synchronous": 1}


def test_sqlite_waits_for_a_writer_even_after_reading(sqlite_engine: Engine) -> None:
    """Read, another process writes, then write: a transaction that began by reading would fail here at once."""
    ids = store_with_nodes(sqlite_engine, 2)
    with sqlite_engine.begin() as first:
        assert first.execute(select(nodes.c.status).where(nodes.c.id == ids[0])).scalar() == "unknown"
        other = threading.Thread(target=_set_status, args=(sqlite_engine, ids[1], 0.3))
        other.start()
        time.sleep(0.1)
        first.execute(nodes.update().where(nodes.c.id == ids[0]).values(status="up"))
    other.join()
    with sqlite_engine.connect() as connection:
        assert connection.execute(select(nodes.c.status).order_by(nodes.c.id)).scalars().all() == ["up", "down"]


def _set_status(engine: Engine, node_id: int, hold_s: float) -> None:
    with engine.begin() as connection:
        connection.execute(nodes.update().where(nodes.c.id == node_id).values(status="down"))
        time.sleep(hold_s)


def test_reading_goes_on_while_another_writes(sqlite_engine: Engine) -> None:
    ids = store_with_nodes(sqlite_engine, 1)
    with sqlite_engine.begin() as writer, sqlite_engine.connect() as reader:
        writer.execute(nodes.update().values(status="up"))
        assert reader.execute(select(nodes.c.id)).scalars().all() == ids


def test_an_error_rolls_everything_back(engine: Engine) -> None:
    store_with_nodes(engine, 1)
    with pytest.raises(IntegrityError), engine.begin() as connection:
        connection.execute(nodes.update().values(status="up"))
        connection.execute(nodes.update().values(status=None))
    with engine.connect() as connection:
        assert connection.execute(select(nodes.c.status)).scalar() == "unknown"


def test_reporting_makes_one_line_of_any_other_error(engine: Engine) -> None:
    store_with_nodes(engine, 1)
    with pytest.raises(DatabaseError) as caught, reporting(), engine.begin() as connection:
        connection.execute(nodes.update().values(status=None))
    line = str(caught.value)
    assert line.startswith("metrics database: ")
    assert "NOT NULL" in line or "NotNullViolation" in line
    assert "\n" not in line
    assert "UPDATE" not in line


# -- the version of its tables -----------------------------------------------------------------------------------------


def test_upgrade_twice(empty_url: str) -> None:
    engine = open_engine(empty_url)
    assert upgrade(engine) == (None, HEAD)
    assert upgrade(engine) == (HEAD, HEAD)
    check_schema(engine)
    engine.dispose()


def test_upgrade_with_nothing_to_do_waits_for_nobody(sqlite_engine: Engine) -> None:
    ids = store_with_nodes(sqlite_engine, 1)
    impatient = open_engine(f"{sqlite_engine.url}?timeout=0.2")
    with sqlite_engine.begin() as other:
        other.execute(nodes.update().where(nodes.c.id == ids[0]).values(status="up"))
        assert upgrade(impatient) == (HEAD, HEAD)
    impatient.dispose()


def test_upgrade_keeps_what_else_is_there(empty_url: str) -> None:
    """It may share a database with Airflow, whose migrations have a version table of their own."""
    if empty_url.startswith("sqlite"):
        Path(make_url(empty_url).database or "").touch()
    engine = open_engine(empty_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('cc92b33c6709')"))
    assert upgrade(engine) == (None, HEAD)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "cc92b33c6709"
    engine.dispose()


def test_upgrade_by_several_processes_at_once(empty_url: str, processes: Executor) -> None:
    done = [processes.submit(upgrade_url, empty_url) for _ in range(3)]
    assert sorted(str(future.result()[0]) for future in done) == [HEAD, HEAD, "None"]
    engine = open_engine(empty_url)
    check_schema(engine)
    engine.dispose()


def test_an_upgrade_that_fails_leaves_nothing_behind(empty_url: str) -> None:
    """The last table is there already: whatever was created before it is rolled back."""
    if empty_url.startswith("sqlite"):
        Path(make_url(empty_url).database or "").touch()
    engine = open_engine(empty_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE node_samples (ts BIGINT)"))
    with pytest.raises(DatabaseError), reporting():
        upgrade(engine)
    with engine.connect() as connection:
        assert not engine.dialect.has_table(connection, "nodes")
        assert not engine.dialect.has_table(connection, VERSION_TABLE)
    engine.dispose()


def _set_revision(engine: Engine, revision: str) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE evc_schema SET version_num = :revision"), {"revision": revision})


def test_a_newer_database_is_refused(engine: Engine) -> None:
    _set_revision(engine, "9000")
    said = rf"database is of a newer EVC \(revision 9000, this one knows up to {HEAD}\): upgrade EVC$"
    with pytest.raises(SchemaMismatch, match=said):
        check_schema(engine)
    with pytest.raises(SchemaMismatch, match=said):
        upgrade(engine)


def test_an_older_database_is_refused(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evc.store.database.HEAD", "0999")
    with pytest.raises(
        SchemaMismatch, match=r"older EVC \(revision \d{4}, this one needs 0999\): run `evc db upgrade`$"
    ):
        check_schema(engine)


def test_a_revision_of_something_else_is_refused(engine: Engine) -> None:
    _set_revision(engine, "cc92b33c6709")
    with pytest.raises(SchemaMismatch, match="'cc92b33c6709', which is no revision of EVC"):
        check_schema(engine)


def test_an_empty_database_is_refused(empty_url: str) -> None:
    engine = open_engine(empty_url)
    with pytest.raises(SchemaMismatch, match="run `evc db upgrade`$") as caught:
        check_schema(engine)
    assert "\n" not in str(caught.value)
    if empty_url.startswith("sqlite"):
        assert not Path(make_url(empty_url).database or "").exists(), "looking must not create a file"
    engine.dispose()


def test_a_file_without_tables_is_refused(tmp_path: Path) -> None:
    (tmp_path / "metrics.db").touch()
    with pytest.raises(SchemaMismatch, match="has no tables of EVC: run `evc db upgrade`$"):
        check_schema(open_engine(embedded_url(tmp_path)))
