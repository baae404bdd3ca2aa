"""A login that reads: made on a real PostgreSQL, tried as that login."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text

from evc.errors import DatabaseError, InputError
from evc.store import database
from evc.store.database import HEAD, REVISIONS, VERSION_TABLE, open_engine, upgrade
from evc.store.readers import let_read
from evc.store.tables import metadata

LOGIN = "grafana_reads"
PASSWORD = "first'; DROP TABLE nodes"  # noqa: S105  a test's
_AT_HEAD = text(f"UPDATE {VERSION_TABLE} SET version_num = '{HEAD}'")  # noqa: S608  constants


@pytest.fixture
def reader(postgres_engine: Engine) -> Iterator[Engine]:
    let_read(postgres_engine, LOGIN, PASSWORD)
    engine = _as_reader(postgres_engine, PASSWORD)
    yield engine
    engine.dispose()
    _run(postgres_engine, f"DROP OWNED BY {LOGIN}", f"DROP ROLE {LOGIN}")


def _as_reader(engine: Engine, password: str) -> Engine:
    return open_engine(engine.url.set(username=LOGIN, password=password).render_as_string(hide_password=False))


def _run(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_it_reads_every_table_of_evc_and_no_other(postgres_engine: Engine, reader: Engine) -> None:
    _run(postgres_engine, "CREATE TABLE connection AS SELECT 'secret' AS password")
    try:
        for table in metadata.sorted_tables:
            with reader.connect() as connection:
                connection.execute(table.select().limit(1))
        with pytest.raises(DatabaseError, match="permission denied"), reader.connect() as connection:
            connection.execute(text("SELECT password FROM connection"))
    finally:
        _run(postgres_engine, "DROP TABLE connection")


@pytest.mark.parametrize(
    "statement", ["DELETE FROM nodes", "SET default_transaction_read_only = off; DELETE FROM nodes"]
)
def test_it_writes_nothing(reader: Engine, statement: str) -> None:
    with pytest.raises(DatabaseError), reader.begin() as connection:
        connection.execute(text(statement))


def test_again_is_another_password(postgres_engine: Engine, reader: Engine) -> None:
    reader.dispose()
    let_read(postgres_engine, LOGIN, "second")
    with pytest.raises(DatabaseError, match="password authentication failed"):
        reader.connect()
    second = _as_reader(postgres_engine, "second")
    with second.connect() as connection:
        assert connection.execute(text("SHOW default_transaction_read_only")).scalar() == "on"
    second.dispose()


def test_an_upgrade_lets_it_read_what_is_new(
    postgres_engine: Engine, reader: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(postgres_engine, f"REVOKE SELECT ON sweeps FROM {LOGIN}")  # noqa: S608  a constant
    with pytest.raises(DatabaseError, match="permission denied"), reader.connect() as connection:
        connection.execute(text("SELECT count(*) FROM sweeps"))
    # the tables are of this version already: only what comes after the migrations is left to do
    _run(postgres_engine, f"UPDATE {VERSION_TABLE} SET version_num = '{REVISIONS[-2]}'")  # noqa: S608  constants
    monkeypatch.setattr(database, "_migrate", lambda connection: connection.execute(_AT_HEAD))
    upgrade(postgres_engine)
    with reader.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM sweeps")).scalar() == 0


def test_a_login_of_another_program_keeps_its_password(postgres_engine: Engine) -> None:
    owner = str(postgres_engine.url.username)
    with pytest.raises(InputError, match="that EVC has not made; allowed: another name"):
        let_read(postgres_engine, owner, "other")
    postgres_engine.dispose()
    postgres_engine.connect().close()


@pytest.mark.parametrize("login", ["", "pg_foo", "public", "none", "a\nb", "x" * 64, "Grafana", 'a"b', "1st"])
def test_what_can_be_no_login_is_said(postgres_engine: Engine, login: str) -> None:
    with pytest.raises(InputError, match=re.escape("can't be a login; allowed: 1 to 63 of a-z, 0-9 and _")):
        let_read(postgres_engine, login, "secret")


def test_sqlite_knows_no_logins(sqlite_engine: Engine) -> None:
    with pytest.raises(InputError, match="SQLite, which knows no logins"):
        let_read(sqlite_engine, "grafana", "secret")


def test_a_login_that_may_make_none_is_told_what_it_lacks(postgres_engine: Engine) -> None:
    _run(postgres_engine, f"CREATE ROLE modest LOGIN PASSWORD '{LOGIN}'")
    modest = open_engine(
        postgres_engine.url.set(username="modest", password=LOGIN).render_as_string(hide_password=False)
    )
    try:
        with pytest.raises(InputError, match="the login 'modest' of EVC may make no logins; .*\"modest\" CREATEROLE"):
            let_read(modest, "other", PASSWORD)
    finally:
        modest.dispose()
        _run(postgres_engine, "DROP ROLE modest")
