"""Logins of PostgreSQL that may read EVC's tables and write nothing, as Grafana's should."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Connection, Engine, text

from evc.errors import InputError
from evc.store.database import VERSION_TABLE
from evc.store.tables import metadata

_WHERE = "reader"
_LOGIN = re.compile(r"(?!pg_|public$|none$)[a-z_][a-z0-9_]{0,62}")
# what tells a login that was made here from all others of the server
_MARK = "reads the metrics database of EVC"


def let_read(engine: Engine, login: str, password: str) -> None:
    """Make a login that reads EVC's tables, or give one that was made here a new password.

    Other tables of the database stay closed to it. The server gets the password's SCRAM verifier, never the password:
    its own log may hold statements.

    :raises InputError: the database is SQLite; EVC may make no logins; this can't be one, or is another program's
    :raises DatabaseError: the server is away, for instance
    """
    if engine.dialect.name != "postgresql":
        raise InputError(_WHERE, "the metrics database is SQLite, which knows no logins", "a PostgreSQL database")
    if not _LOGIN.fullmatch(login):
        allowed = "1 to 63 of a-z, 0-9 and _, no digit first, not pg_..., public or none"
        raise InputError(_WHERE, f"{login[:63]!r} can't be a login", allowed)
    with engine.begin() as connection:
        _require_right(connection)
        verb = "ALTER" if _is_there(connection, login) else "CREATE"
        role = _quoted(connection, login)
        _run(connection, f"{verb} ROLE {role} LOGIN PASSWORD '{_verifier(connection, login, password)}'")
        _run(connection, f"ALTER ROLE {role} SET default_transaction_read_only = on")
        _run(connection, f"COMMENT ON ROLE {role} IS '{_MARK}'")
        _grant(connection, login)


def renew_readers(connection: Connection) -> None:
    """Let the logins that read the tables of an older version read those of this one. For PostgreSQL."""
    marked = text(
        "SELECT rolname FROM pg_roles WHERE shobj_description(oid, 'pg_authid') = :mark "
        "AND has_table_privilege(rolname, 'nodes', 'SELECT')"
    )
    for login in connection.execute(marked, {"mark": _MARK}).scalars().all():
        _grant(connection, login)


def _require_right(connection: Connection) -> None:
    """:raises InputError: EVC's own login may make no other ones"""
    query = "SELECT rolname, rolcreaterole OR rolsuper AS may FROM pg_roles WHERE rolname = current_user"
    row = connection.execute(text(query)).one()
    if not row.may:
        allowed = f'one with CREATEROLE; a superuser gives it that: ALTER ROLE "{row.rolname}" CREATEROLE'
        raise InputError(_WHERE, f"the login {row.rolname!r} of EVC may make no logins", allowed)


def _is_there(connection: Connection, login: str) -> bool:
    """Return whether a login was made here. :raises InputError: it is there, and another program's"""
    found = text("SELECT shobj_description(oid, 'pg_authid') AS mark FROM pg_roles WHERE rolname = :login")
    row = connection.execute(found, {"login": login}).one_or_none()
    if row is not None and row.mark != _MARK:
        raise InputError(_WHERE, f"there is a login {login!r} that EVC has not made", "another name")
    return row is not None


def _verifier(connection: Connection, login: str, password: str) -> str:
    """Return what the server keeps of a password: letters, digits and ``-$:+/=``, so it stands between quotes."""
    driver: Any = connection.connection.driver_connection
    return str(driver.pgconn.encrypt_password(password.encode(), login.encode(), b"scram-sha-256").decode())


def _grant(connection: Connection, login: str) -> None:
    tables = ", ".join(_quoted(connection, name) for name in sorted([VERSION_TABLE, *metadata.tables]))
    _run(connection, f"GRANT USAGE ON SCHEMA public TO {_quoted(connection, login)}")
    _run(connection, f"GRANT SELECT ON {tables} TO {_quoted(connection, login)}")


def _quoted(connection: Connection, name: str) -> str:
    return str(connection.dialect.identifier_preparer.quote_identifier(name))


def _run(connection: Connection, statement: str) -> None:
    connection.exec_driver_sql(statement)  # these take no parameters
