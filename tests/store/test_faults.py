"""Every fault is a real one: a real lock, a real full disk, a real server that is away."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, make_url, select, text
from sqlalchemy.exc import DBAPIError

from evc.errors import DatabaseAway, DatabaseError, DatabaseReadOnly, SchemaMismatch
from evc.store.database import check_schema, embedded_url, open_engine, upgrade
from evc.store.faults import database_name, translate
from evc.store.tables import nodes
from evc.store.writer import write
from tests.servers.limits import file_size_limit, not_root, small_disk
from tests.servers.postgres import PostgresServer, running_postgres
from tests.store.batches import TS, store_with_nodes, sweep_batch


@contextmanager
def fault(engine: Engine, kind: type[DatabaseError], said: str) -> Iterator[None]:
    """Expect exactly ``kind``, as one line that names the database, says ``said`` and shows no password."""
    with pytest.raises(DatabaseError) as caught:
        yield
    line = str(caught.value)
    assert type(caught.value) is kind, line
    assert line.startswith(f"{database_name(engine.url)}: ")
    assert said in line
    assert "\n" not in line
    password = engine.url.password
    assert not password or str(password) not in line


def with_options(engine: Engine, **options: str) -> Engine:
    """Return an engine on the same database."""
    return open_engine(engine.url.update_query_dict(options).render_as_string(hide_password=False))


# -- SQLite ------------------------------------------------------------------------------------------------------------


def test_sqlite_locked(sqlite_engine: Engine) -> None:
    ids = store_with_nodes(sqlite_engine, 1)
    impatient = with_options(sqlite_engine, timeout="0.2")
    with sqlite_engine.begin() as other:
        other.execute(nodes.update().values(status="up"))
        with fault(impatient, DatabaseAway, "locked by another process"):
            write(impatient, sweep_batch(ids))
        with impatient.connect() as reader:
            assert reader.execute(select(nodes.c.id)).scalars().all() == ids
    assert write(impatient, sweep_batch(ids)) > 0
    impatient.dispose()


def test_sqlite_folder_missing(tmp_path: Path) -> None:
    engine = open_engine(embedded_url(tmp_path / "nowhere"))
    for action in (check_schema, upgrade):
        with fault(engine, DatabaseAway, "its folder does not exist"):
            action(engine)
    assert not list(tmp_path.iterdir())


def test_sqlite_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "metrics.db").mkdir()
    engine = open_engine(embedded_url(tmp_path))
    for action in (check_schema, upgrade):
        with fault(engine, DatabaseError, "this is a folder"):
            action(engine)


def test_sqlite_is_another_file(tmp_path: Path) -> None:
    (tmp_path / "metrics.db").write_bytes(b"hello, this is no database\n" * 100)
    engine = open_engine(embedded_url(tmp_path))
    for action in (check_schema, upgrade):
        with fault(engine, DatabaseError, "not an SQLite database"):
            action(engine)


def test_sqlite_is_damaged(sqlite_engine: Engine) -> None:
    ids = store_with_nodes(sqlite_engine, 50)
    write(sqlite_engine, sweep_batch(ids))
    sqlite_engine.dispose()
    file = Path(str(sqlite_engine.url.database))
    content = bytearray(file.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    file.write_bytes(content)
    with fault(sqlite_engine, DatabaseError, "damaged"):
        write(sqlite_engine, sweep_batch(ids, TS + 30))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="evc-open-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture
def shared(sqlite_engine: Engine, open_folder: Path) -> Engine:
    """An SQLite database in that folder, nobody's connection open."""
    sqlite_engine.dispose()
    shutil.copy(str(sqlite_engine.url.database), open_folder / "metrics.db")
    return open_engine(embedded_url(open_folder))


def test_sqlite_file_may_only_be_read(shared: Engine, open_folder: Path) -> None:
    ids = store_with_nodes(shared, 1)
    shared.dispose()
    (open_folder / "metrics.db").chmod(0o444)
    open_folder.chmod(0o777)
    with not_root(), fault(shared, DatabaseReadOnly, "may only be read"):
        write(shared, sweep_batch(ids))


def test_sqlite_folder_may_only_be_read(shared: Engine, open_folder: Path) -> None:
    ids = store_with_nodes(shared, 1)
    shared.dispose()
    (open_folder / "metrics.db").chmod(0o666)
    open_folder.chmod(0o555)
    with not_root(), fault(shared, DatabaseReadOnly, "may only be read"):
        write(shared, sweep_batch(ids))


def test_sqlite_folder_where_no_file_may_be_made(open_folder: Path) -> None:
    open_folder.chmod(0o555)
    engine = open_engine(embedded_url(open_folder))
    with not_root(), fault(engine, DatabaseReadOnly, "may only be read"):
        upgrade(engine)


def test_sqlite_file_may_not_be_read(shared: Engine, open_folder: Path) -> None:
    (open_folder / "metrics.db").chmod(0)
    with not_root(), fault(shared, DatabaseError, "may not be read by this user"):
        check_schema(shared)


def test_sqlite_folder_may_not_be_entered(shared: Engine, open_folder: Path) -> None:
    open_folder.chmod(0o600)
    with not_root(), fault(shared, DatabaseError, "may not be entered by this user"):
        check_schema(shared)


def test_sqlite_disk_full(sqlite_engine: Engine, tmp_path: Path) -> None:
    ids = store_with_nodes(sqlite_engine, 200)
    sqlite_engine.dispose()
    disk = tmp_path / "disk"
    disk.mkdir()
    with small_disk(disk, 1_000_000) as limit:
        shutil.copy(str(sqlite_engine.url.database), disk / "metrics.db")
        engine = open_engine(embedded_url(disk))
        said = "no space is left" if limit.startswith("No space") else "its disk failed or is full"
        with fault(engine, DatabaseAway, said):
            for sweep in range(50):
                write(engine, sweep_batch(ids, TS + 30 * sweep))
        with engine.connect() as connection:
            counts = connection.execute(text("SELECT count(*) FROM node_samples GROUP BY ts")).scalars().all()
        assert set(counts) == {200}, "no half batch"
        engine.dispose()


def test_sqlite_files_may_not_grow(sqlite_engine: Engine) -> None:
    ids = store_with_nodes(sqlite_engine, 200)
    with file_size_limit(200_000), fault(sqlite_engine, DatabaseAway, "its disk failed or is full"):
        for sweep in range(50):
            write(sqlite_engine, sweep_batch(ids, TS + 30 * sweep))
    assert write(sqlite_engine, sweep_batch(ids, TS - 30)) > 0


def test_sqlite_table_missing(sqlite_engine: Engine) -> None:
    ids = store_with_nodes(sqlite_engine, 1)
    with sqlite_engine.begin() as connection:
        connection.execute(text("DROP TABLE temperature_samples"))
    with fault(sqlite_engine, SchemaMismatch, "no such table: temperature_samples: run `evc db upgrade`"):
        write(sqlite_engine, sweep_batch(ids))


# -- PostgreSQL --------------------------------------------------------------------------------------------------------


def test_postgres_stops_and_comes_back() -> None:
    """Down, up, and down again in between two batches of the same engine."""
    with running_postgres() as server, server.database() as name:
        engine = open_engine(server.url(name))
        upgrade(engine)
        ids = store_with_nodes(engine, 10)
        server.stop()
        with fault(engine, DatabaseAway, "Connection refused"):
            write(engine, sweep_batch(ids))
        server.start()
        assert write(engine, sweep_batch(ids)) > 0
        server.stop()
        server.start()
        assert write(engine, sweep_batch(ids, TS + 30)) > 0, "a pooled connection that died is replaced unseen"
        engine.dispose()


def test_postgres_ends_the_connection_in_mid_batch(postgres_engine: Engine, postgres_server: PostgresServer) -> None:
    ids = store_with_nodes(postgres_engine, 1)
    with fault(postgres_engine, DatabaseAway, "terminating connection"), postgres_engine.begin() as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar()
        with postgres_server.connect() as killer:
            killer.execute("SELECT pg_terminate_backend(%s)", [pid])
        connection.execute(nodes.update().values(status="up"))
    assert write(postgres_engine, sweep_batch(ids)) > 0


def _elsewhere(engine: Engine, **parts: object) -> Engine:
    return open_engine(engine.url.set(**parts).render_as_string(hide_password=False))  # type: ignore[arg-type]


def test_postgres_wrong_port(postgres_engine: Engine) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, not listening: refused
        engine = _elsewhere(postgres_engine, port=free.getsockname()[1])
        with fault(engine, DatabaseAway, "Connection refused"):
            check_schema(engine)


def test_postgres_wrong_password(postgres_engine: Engine) -> None:
    engine = _elsewhere(postgres_engine, password="not-the-password")  # noqa: S106
    with fault(engine, DatabaseError, 'refused the login (password authentication failed for user "evc")'):
        check_schema(engine)


def test_postgres_wrong_user(postgres_engine: Engine) -> None:
    engine = _elsewhere(postgres_engine, username="stranger")
    with fault(engine, DatabaseError, 'refused the login (password authentication failed for user "stranger")'):
        check_schema(engine)


def test_postgres_no_password(postgres_engine: Engine) -> None:
    url = postgres_engine.url
    engine = open_engine(f"postgresql://{url.username}@{url.host}:{url.port}/{url.database}")
    with fault(engine, DatabaseError, "refused the login (fe_sendauth: no password supplied)"):
        check_schema(engine)


def test_postgres_database_missing(postgres_engine: Engine) -> None:
    engine = _elsewhere(postgres_engine, database="nothing_here")
    with fault(engine, DatabaseAway, 'database "nothing_here" does not exist'):
        check_schema(engine)


def test_postgres_host_unknown(postgres_engine: Engine) -> None:
    engine = _elsewhere(postgres_engine, host="metrics.invalid")
    with fault(engine, DatabaseAway, "metrics.invalid"):
        check_schema(engine)


def test_postgres_accepts_and_says_nothing(postgres_engine: Engine) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        engine = with_options(_elsewhere(postgres_engine, port=silent.getsockname()[1]), connect_timeout="2")
        with fault(engine, DatabaseAway, "timeout expired"):
            check_schema(engine)


def test_postgres_option_unknown(postgres_engine: Engine) -> None:
    engine = with_options(postgres_engine, colour="blue")
    with fault(engine, DatabaseError, 'invalid connection option "colour"'):
        check_schema(engine)


def test_postgres_locked(postgres_engine: Engine) -> None:
    ids = store_with_nodes(postgres_engine, 1)
    impatient = with_options(postgres_engine, options="-c lock_timeout=200")
    with postgres_engine.begin() as other:
        other.execute(text("LOCK TABLE node_samples IN ACCESS EXCLUSIVE MODE"))
        with fault(impatient, DatabaseAway, "locked by another session"):
            write(impatient, sweep_batch(ids))
    assert write(impatient, sweep_batch(ids)) > 0
    impatient.dispose()


def test_postgres_waits_a_bounded_time_for_locks(postgres_engine: Engine) -> None:
    with postgres_engine.connect() as connection:
        assert connection.execute(text("SHOW lock_timeout")).scalar() == "30s"


def test_postgres_server_only_reads(postgres_engine: Engine) -> None:
    """As on a standby that was not promoted yet."""
    ids = store_with_nodes(postgres_engine, 1)
    standby = with_options(postgres_engine, options="-c default_transaction_read_only=on")
    with fault(standby, DatabaseReadOnly, "the server only reads"):
        write(standby, sweep_batch(ids))
    standby.dispose()


def test_postgres_login_may_only_read(postgres_engine: Engine, postgres_server: PostgresServer) -> None:
    """As Grafana's login is."""
    ids = store_with_nodes(postgres_engine, 1)
    with postgres_server.connect(postgres_engine.url.database or "") as owner:
        owner.execute("CREATE ROLE reader LOGIN PASSWORD 'reads-only'")
        owner.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    reader = _elsewhere(postgres_engine, username="reader", password="reads-only")  # noqa: S106
    try:
        check_schema(reader)
        with fault(reader, DatabaseReadOnly, "the login may not do that (permission denied for table node_samples)"):
            write(reader, sweep_batch(ids))
    finally:
        reader.dispose()
        with postgres_server.connect(postgres_engine.url.database or "") as owner:
            owner.execute("DROP OWNED BY reader")
            owner.execute("DROP ROLE reader")


def test_postgres_disk_full(postgres_engine: Engine, postgres_server: PostgresServer) -> None:
    """The server process may write no further than its log segments of 1 MiB need."""
    ids = store_with_nodes(postgres_engine, 500)
    with postgres_engine.connect() as connection:
        pid = int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
    postgres_server.limit_file_size(pid, 1_100_000)
    with fault(postgres_engine, DatabaseAway, "no space is left on the server's disk"):
        for sweep in range(50):  # in a pool of one connection: the limited one
            write(postgres_engine, sweep_batch(ids, TS + 30 * sweep))
    postgres_engine.dispose()
    with postgres_engine.connect() as connection:
        counts = connection.execute(text("SELECT count(*) FROM node_samples GROUP BY ts")).scalars().all()
    assert set(counts) == {500}, "no half batch"


def test_postgres_table_missing(postgres_engine: Engine) -> None:
    ids = store_with_nodes(postgres_engine, 1)
    with postgres_engine.begin() as connection:
        connection.execute(text("DROP TABLE temperature_samples"))
    with fault(postgres_engine, SchemaMismatch, "a table is missing: run `evc db upgrade`"):
        write(postgres_engine, sweep_batch(ids))


def test_postgres_too_many_connections(postgres_engine: Engine, postgres_server: PostgresServer) -> None:
    name = postgres_engine.url.database or ""
    with postgres_server.connect() as owner:
        owner.execute("CREATE ROLE crowd LOGIN PASSWORD 'not-alone' CONNECTION LIMIT 1")
    crowded = _elsewhere(postgres_engine, username="crowd", password="not-alone")  # noqa: S106
    try:
        with crowded.connect() as first:
            first.execute(text("SELECT 1"))
            with fault(crowded, DatabaseAway, "too many connections"):
                crowded.connect()
    finally:
        crowded.dispose()
        with postgres_server.connect(name) as owner:
            owner.execute("DROP ROLE crowd")


# -- both --------------------------------------------------------------------------------------------------------------


def test_a_fault_of_a_statement_is_not_one_of_the_database() -> None:
    plain = create_engine("sqlite://")
    with pytest.raises(DBAPIError) as caught, plain.connect() as connection:
        connection.execute(text("SELEKT 1"))
    assert isinstance(caught.value.orig, sqlite3.OperationalError)
    assert translate(make_url("sqlite:////m.db"), caught.value.orig) is None
    assert translate(make_url("sqlite:////m.db"), OSError("x")) is None


def test_a_password_in_a_driver_s_message_is_hidden() -> None:
    import psycopg

    url = make_url("postgresql+psycopg://u:s3cr3t@h/d?password=s3cr3t")
    found = translate(url, psycopg.OperationalError("connection failed: s3cr3t is odd"))
    assert str(found) == "metrics database postgresql://u:***@h/d: *** is odd"


def test_not_root_is_not_root() -> None:
    with not_root():
        assert os.geteuid() != 0
