"""The metrics database: where it is, how to open it, which version its tables are of.

Every error of a driver that says something about the database comes out of an engine made here as a
:class:`~evc.errors.DatabaseError`, so no caller can forget to translate one.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.engine.interfaces import ExceptionContext
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from evc.errors import DatabaseAway, DatabaseError, InputError, SchemaMismatch
from evc.fleet.connections import read_connection
from evc.store.faults import UPGRADE, database_name, translate

CONNECTION = "connection evc_metrics"
VERSION_TABLE = "evc_schema"  # of its own, so that the tables may share a database with Airflow's
MIGRATIONS = Path(__file__).parent / "migrations"
REVISIONS = tuple(sorted(path.stem[:4] for path in (MIGRATIONS / "versions").glob("[0-9]*.py")))
HEAD = REVISIONS[-1]

LOCK_TIMEOUT_S = 30
CONNECT_TIMEOUT_S = 10
_SQLITE_CACHE_KIB = 16_000  # the leaves of an index over 1,000 nodes, which every sweep touches, fit in
_UPGRADE_LOCK = 0x657663  # "evc": any number, the same in every process
_TYPES = "sqlite:////absolute/path.db or postgres://user:password@host:5432/database"


# -- where it is -------------------------------------------------------------------------------------------------------


def embedded_url(state_folder: Path) -> str:
    """Return the URL of the embedded database: SQLite, ``metrics.db`` in ``state_folder``."""
    return _sqlite_url(str(state_folder.absolute() / "metrics.db"), {}).render_as_string()


def url_from_connection(value: str) -> str:
    """Return the SQLAlchemy URL, password included, of an Airflow connection.

    :param value: what ``AIRFLOW_CONN_EVC_METRICS`` holds: the connection as URI or as JSON
    :raises InputError: it describes no SQLite or PostgreSQL database; the message never shows the value
    """
    given = read_connection(CONNECTION, value, _TYPES)
    kind = str(given.get("conn_type") or "").lower().replace("-", "+").replace("_", "+")
    if kind == "sqlite":
        url = _sqlite_url(given.get("schema") or given.get("host") or "", given["extra"])
    elif kind in {"postgres", "postgresql", "postgresql+psycopg"}:
        url = _postgres_url(given)
    else:
        raise InputError(CONNECTION, f"its type {kind[:40]!r} is not known", _TYPES)
    return url.render_as_string(hide_password=False)


def _sqlite_url(path: str, extra: Mapping[str, str]) -> URL:
    if not path.startswith("/"):
        # a relative one would be another file for each process that starts in another folder
        raise InputError(
            CONNECTION, f"{path[:200]!r} is not an absolute path", "sqlite:////absolute/path.db, four slashes"
        )
    unknown = sorted(set(extra) - {"timeout"})
    if unknown:
        raise InputError(
            CONNECTION, f"its option {unknown[0][:40]!r} is not known to SQLite here", "timeout, in seconds"
        )
    return URL.create("sqlite", database=path, query=extra)


def _postgres_url(given: Mapping[str, Any]) -> URL:
    port = str(given.get("port") or "") or None
    if port and not (port.isdecimal() and 1 <= int(port) <= 65535):
        raise InputError(CONNECTION, f"{port[:20]!r} is not a port", "a whole number from 1 to 65535")
    if not given.get("schema"):
        raise InputError(CONNECTION, "it names no database", "postgres://user:password@host:5432/database")
    host = given.get("host") or None
    socket = {"host": host} if host and host.startswith("/") else {}  # the folder of a unix socket
    return URL.create(
        "postgresql+psycopg",
        username=given.get("login") or None,
        password=given.get("password") or None,
        host=None if socket else host,
        port=int(port) if port else None,
        database=given["schema"],
        query={**given["extra"], **socket},
    )


# -- opening it --------------------------------------------------------------------------------------------------------


def open_engine(url: str) -> Engine:
    """Return an engine for ``url``, not yet connected.

    Use ``engine.begin()`` to write. SQLite takes its lock with the first statement that writes, and waits for it 30 s
    or as long as ``?timeout=`` says; PostgreSQL waits 30 s for the lock of a table or row.

    :raises InputError: neither SQLite nor PostgreSQL
    """
    try:
        made = make_url(url)
    except ArgumentError:
        raise InputError("metrics database", "its URL can't be read", _TYPES) from None
    backend = made.get_backend_name()
    if backend not in {"sqlite", "postgresql", "postgres"}:
        raise InputError("metrics database", f"{backend!r} is not known", _TYPES)
    engine = _sqlite_engine(made) if backend == "sqlite" else _postgres_engine(made)

    @event.listens_for(engine, "handle_error")
    def translated(context: ExceptionContext) -> BaseException | None:
        # a ping that fails only means that the pool connects anew
        return None if context.is_pre_ping else translate(made, context.original_exception)

    return engine


def _sqlite_engine(url: URL) -> Engine:
    if not url.database or not url.database.startswith("/"):
        raise InputError("metrics database", "it is not a file with an absolute path", _TYPES)
    file = f"file:{quote(url.database)}?mode=rw"  # reading must not create a file; upgrade() does
    timeout_s = float(str(url.query.get("timeout", LOCK_TIMEOUT_S)))

    def connect() -> sqlite3.Connection:
        # IMMEDIATE: the first statement that writes takes the lock at once, or waits. A transaction that began by
        # reading could not wait: what it has read may be old by then.
        connection = sqlite3.connect(
            file, uri=True, timeout=timeout_s, isolation_level="IMMEDIATE", check_same_thread=False
        )
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(
                "PRAGMA synchronous = NORMAL"
            )  # WAL: a power cut may take the last seconds, nothing else
            connection.execute(f"PRAGMA cache_size = -{_SQLITE_CACHE_KIB}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    return create_engine(url, creator=connect)


def _postgres_engine(url: URL) -> Engine:
    defaults = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "keepalives_idle": 30,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
    }
    missing = {name: value for name, value in defaults.items() if name not in url.query}
    engine = create_engine(url.set(drivername="postgresql+psycopg"), connect_args=missing, pool_pre_ping=True)

    if "options" not in url.query:  # where PgBouncer is in between, "options" is refused: hence a statement

        @event.listens_for(engine, "connect")
        def bound_locks(connection: Any, record: object) -> None:
            connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT_S}s'")
            connection.commit()

    return engine


@contextmanager
def reporting() -> Iterator[None]:
    """Turn what is left of SQLAlchemy's own errors into a :class:`~evc.errors.DatabaseError` of one line.

    For the outermost boundary: a pool without a free connection, a value that the database refuses, a fault of EVC's
    statements. Neither statement nor values are shown.
    """
    try:
        yield
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        line = (str(cause).strip().splitlines() or [""])[0]
        raise DatabaseError(f"metrics database: {type(cause).__name__}: {line[:300]}") from error


# -- the version of its tables -----------------------------------------------------------------------------------------


def check_schema(engine: Engine) -> None:
    """Do nothing where the tables are of this version of EVC.

    :raises SchemaMismatch: they are older, newer or not there; the message says what to do
    """
    with engine.connect() as connection:
        found = _revision(connection)
    _refuse_unknown(engine.url, found)
    if found is None:
        raise SchemaMismatch(f"{database_name(engine.url)}: has no tables of EVC: {UPGRADE}")
    if found != HEAD:
        raise SchemaMismatch(
            f"{database_name(engine.url)}: is of an older EVC (revision {found}, this one needs {HEAD}): {UPGRADE}"
        )


def upgrade(engine: Engine) -> tuple[str | None, str]:
    """Create the tables or bring them to this version; returns the revisions before and after.

    All of it in one transaction, under a lock: a second process waits, then finds nothing to do. Where nothing is to
    do, nothing is locked.

    :raises SchemaMismatch: the database is of a newer EVC
    """
    sqlite = engine.dialect.name == "sqlite"
    if sqlite:
        _create_file(Path(str(engine.url.database)))
    with engine.connect() as connection:
        if _revision(connection) == HEAD:
            return HEAD, HEAD
    if sqlite:
        _use_wal(engine)
    with engine.begin() as connection:
        connection.execute(text("BEGIN IMMEDIATE" if sqlite else f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK})"))
        before = _revision(connection)
        _refuse_unknown(engine.url, before)
        if before != HEAD:
            _migrate(connection)
            if not sqlite:
                _renew_readers(connection)
    return before, HEAD


def _renew_readers(connection: Connection) -> None:
    from evc.store.readers import renew_readers  # noqa: PLC0415  which reads from here

    renew_readers(connection)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608  a constant
    return None if found is None else str(found)


def _refuse_unknown(url: URL, found: str | None) -> None:
    if found is None or found in REVISIONS:
        return
    if re.fullmatch(r"\d{4}", found) and found > HEAD:
        wrong = f"database is of a newer EVC (revision {found}, this one knows up to {HEAD}): upgrade EVC"
    else:
        wrong = f"its {VERSION_TABLE} holds {found[:40]!r}, which is no revision of EVC: restore it from a backup"
    raise SchemaMismatch(f"{database_name(url)}: {wrong}")


def _create_file(file: Path) -> None:
    with suppress(OSError):  # opening it, next, says why
        if not file.exists():
            file.touch()


def _use_wal(engine: Engine) -> None:
    """Let readers and a writer not block each other, and an empty page be given back; the file keeps both.

    The latter only in a file without tables: in another it would take to write all of it anew.

    SQLite waits for no lock here: where two processes set it at once, one is refused and tries again.
    """
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            with engine.connect() as connection:
                connection.execute(text("PRAGMA auto_vacuum = INCREMENTAL"))
                connection.execute(text("PRAGMA journal_mode = WAL"))
        except DatabaseAway:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _migrate(connection: Connection) -> None:
    # imported here: it takes 0.2 s, which only an upgrade needs
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    command.upgrade(config, "head")
