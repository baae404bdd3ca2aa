"""Fixtures: metrics databases, real ones, empty or with EVC's tables, on SQLite and PostgreSQL.

``engine`` runs a test on both; ``sqlite_engine`` and ``postgres_engine`` on one. Each test finds its database empty.
"""

from __future__ import annotations

import multiprocessing
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from psycopg import sql
from sqlalchemy import Engine

from evc.store.database import HEAD, embedded_url, open_engine, upgrade
from evc.store.tables import metadata
from tests.servers.postgres import PostgresServer, running_postgres

PROCESSES = 3
BACKENDS = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL of this test session; a test that stops it starts its own."""
    with running_postgres() as server:
        yield server


class _PostgresDatabase:
    """One database that is emptied between tests: to make one costs the server ten times as much."""

    _SHAPE = """
        SELECT string_agg(concat_ws(' ', relname, attname, atttypid, attnotnull), ',' ORDER BY attrelid, attnum)
        FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
        WHERE relnamespace = 'public'::regnamespace AND attnum > 0
    """
    _EVICT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._drop = ExitStack()
        self._name: str | None = None
        self._shape: object = None

    def url(self) -> str:
        """Return the URL of the empty database; of a new one where a test has changed its tables."""
        if self._name is None or not self._emptied(self._name):
            self.close()
            self._name = self._drop.enter_context(self._server.database())
            engine = open_engine(self._server.url(self._name))
            upgrade(engine)
            engine.dispose()
            with self._server.connect(self._name) as connection:
                self._shape = connection.execute(self._SHAPE).fetchone()
        return self._server.url(self._name)

    def close(self) -> None:
        """Drop the database."""
        self._drop.close()

    def _emptied(self, name: str) -> bool:
        with self._server.connect(name) as connection:
            connection.execute(self._EVICT, [name])
            if connection.execute(self._SHAPE).fetchone() != self._shape:
                return False
            tables = sql.SQL(", ").join(sql.Identifier(table) for table in metadata.tables)
            connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY").format(tables))
            connection.execute("UPDATE evc_schema SET version_num = %s", [HEAD])  # a test may have set another
            return True


@pytest.fixture(scope="session")
def _postgres_database(postgres_server: PostgresServer) -> Iterator[_PostgresDatabase]:
    database = _PostgresDatabase(postgres_server)
    yield database
    database.close()


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sqlite")
    engine = open_engine(embedded_url(folder))
    upgrade(engine)
    engine.dispose()
    return folder / "metrics.db"


@pytest.fixture(scope="session")
def processes() -> Iterator[Executor]:
    """Three processes that run functions of test modules, all at once where three are submitted."""
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(time.sleep, [0.2] * PROCESSES))  # all of them are up
        yield pool


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """``sqlite``, then ``postgresql``: whatever asks for it runs on both."""
    return str(request.param)


@pytest.fixture
def empty_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without tables, on both."""
    if backend == "sqlite":
        yield embedded_url(tmp_path)
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    with server.database() as name:
        yield server.url(name)


@pytest.fixture
def sqlite_engine(_sqlite_template: Path, tmp_path: Path) -> Iterator[Engine]:
    """An SQLite database with EVC's tables."""
    shutil.copy(_sqlite_template, tmp_path / "metrics.db")
    engine = open_engine(embedded_url(tmp_path))
    yield engine
    engine.dispose()


@pytest.fixture
def postgres_engine(_postgres_database: _PostgresDatabase) -> Iterator[Engine]:
    """A PostgreSQL database with EVC's tables."""
    engine = open_engine(_postgres_database.url())
    yield engine
    engine.dispose()


@pytest.fixture
def engine(backend: str, request: pytest.FixtureRequest) -> Engine:
    """A database with EVC's tables, on both."""
    found: Engine = request.getfixturevalue("sqlite_engine" if backend == "sqlite" else "postgres_engine")
    return found
