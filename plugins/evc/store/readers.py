"""Logins of PostgreSQL that may read the metrics database and nothing else, as Grafana's should."""

from __future__ import annotations

from typing import Any

from psycopg import sql
from sqlalchemy import Engine

from evc.errors import InputError

_WHERE = "reader"


def let_read(engine: Engine, login: str, password: str) -> None:
    """Make a login that reads every table, also those of later versions, or give one a new password.

    The server gets the password's SCRAM verifier, never the password: its own log may hold statements.

    :raises InputError: the database is SQLite; or the login owns the tables, or may do anything
    """
    if engine.dialect.name != "postgresql":
        raise InputError(_WHERE, "the metrics database is SQLite, which knows no logins", "a PostgreSQL database")
    with engine.begin() as connection:
        driver: Any = connection.connection.driver_connection
        known = driver.execute(
            "SELECT rolsuper OR rolname = current_user FROM pg_roles WHERE rolname = %s", [login]
        ).fetchone()
        if known and known[0]:
            raise InputError(_WHERE, f"{login[:63]!r} may do more than read", "a login of its own, such as grafana")
        for statement in _statements(driver, login, password, is_new=known is None):
            driver.execute(statement)


def _statements(driver: Any, login: str, password: str, *, is_new: bool) -> list[sql.Composed]:
    role = sql.Identifier(login)
    verifier = driver.pgconn.encrypt_password(password.encode(), login.encode(), b"scram-sha-256").decode()
    names = {"role": role, "verb": sql.SQL("CREATE" if is_new else "ALTER"), "verifier": sql.Literal(verifier)}
    return [
        sql.SQL(statement).format(**names)
        for statement in (
            "{verb} ROLE {role} LOGIN PASSWORD {verifier}",
            "ALTER ROLE {role} SET default_transaction_read_only = on",
            "GRANT USAGE ON SCHEMA public TO {role}",
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO {role}",
        )
    ]
