"""A login that reads: made on a real PostgreSQL, tried as that login."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, text

from evc.errors import DatabaseError, InputError
from evc.store.database import open_engine
from evc.store.readers import let_read

LOGIN = 'grafana "읽기"'


@pytest.fixture
def reader(postgres_engine: Engine) -> Engine:
    let_read(postgres_engine, LOGIN, "first'; DROP TABLE nodes")
    return _as_reader(postgres_engine, "first'; DROP TABLE nodes")


def _as_reader(engine: Engine, password: str) -> Engine:
    return open_engine(engine.url.set(username=LOGIN, password=password).render_as_string(hide_password=False))


def test_it_reads_tables_of_now_and_later(postgres_engine: Engine, reader: Engine) -> None:
    with postgres_engine.begin() as connection:
        connection.execute(text("CREATE TABLE later AS SELECT 1 AS one"))
    try:
        with reader.connect() as connection:
            assert connection.execute(text("SELECT count(*) FROM nodes")).scalar() == 0
            assert connection.execute(text("SELECT one FROM later")).scalar() == 1
    finally:
        with postgres_engine.begin() as connection:
            connection.execute(text("DROP TABLE later"))


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
    with _as_reader(postgres_engine, "second").connect() as connection:
        assert connection.execute(text("SHOW default_transaction_read_only")).scalar() == "on"


def test_the_owner_keeps_its_password(postgres_engine: Engine) -> None:
    owner = str(postgres_engine.url.username)
    with pytest.raises(InputError, match="may do more than read"):
        let_read(postgres_engine, owner, "other")
    postgres_engine.dispose()
    postgres_engine.connect().close()


def test_sqlite_knows_no_logins(sqlite_engine: Engine) -> None:
    with pytest.raises(InputError, match="SQLite, which knows no logins"):
        let_read(sqlite_engine, "grafana", "secret")
