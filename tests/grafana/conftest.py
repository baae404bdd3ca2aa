"""Databases for queries that only read: one a session and kind, filled or empty."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine

from evc.store.database import embedded_url, open_engine, upgrade
from tests.grafana import fleet


@contextmanager
def _database(backend: str, request: pytest.FixtureRequest, folder: Path, *, filled: bool) -> Iterator[Engine]:
    if backend == "sqlite":
        folder.mkdir()
        with _made(embedded_url(folder), filled=filled) as engine:
            yield engine
        return
    server = request.getfixturevalue("postgres_server")
    with server.database() as name, _made(server.url(name), filled=filled) as engine:
        yield engine


@contextmanager
def _made(url: str, *, filled: bool) -> Iterator[Engine]:
    engine = open_engine(url)
    upgrade(engine)
    if filled:
        with engine.begin() as connection:
            fleet.fill(connection)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")
    yield engine
    engine.dispose()


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A database of a fleet with a past, on both."""
    folder = tmp_path_factory.mktemp("grafana") / "filled"
    with _database(request.param, request, folder, filled=True) as engine:
        yield engine


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def bare(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A database with tables and without rows, on both."""
    folder = tmp_path_factory.mktemp("grafana") / "bare"
    with _database(request.param, request, folder, filled=False) as engine:
        yield engine
