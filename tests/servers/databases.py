"""Fixtures: metrics databases, real ones, empty or with EVC's tables, on SQLite and PostgreSQL.

``engine`` runs a test on both; ``sqlite_engine`` and ``postgres_engine`` on one. Each test has a database of its own.
"""

from __future__ import annotations

import multiprocessing
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine

from evc.store.database import embedded_url, open_engine, upgrade
from tests.servers.postgres import PostgresServer, running_postgres

PROCESSES = 3
BACKENDS = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL of this test session; a test that stops it starts its own."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def _postgres_template(postgres_server: PostgresServer) -> Iterator[str]:
    with postgres_server.database() as name:
        engine = open_engine(postgres_server.url(name))
        upgrade(engine)
        engine.dispose()
        yield name


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
def postgres_engine(postgres_server: PostgresServer, _postgres_template: str) -> Iterator[Engine]:
    """A PostgreSQL database with EVC's tables."""
    with postgres_server.database(_postgres_template) as name:
        engine = open_engine(postgres_server.url(name))
        yield engine
        engine.dispose()


@pytest.fixture
def engine(backend: str, request: pytest.FixtureRequest) -> Engine:
    """A database with EVC's tables, on both."""
    found: Engine = request.getfixturevalue("sqlite_engine" if backend == "sqlite" else "postgres_engine")
    return found
