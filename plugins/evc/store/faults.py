"""What an error of a database driver means, in one line that names the database and never its password.

Sources: SQLite result codes, https://www.sqlite.org/rescode.html; PostgreSQL error codes, appendix A of its manual.
libpq gives no code where a connection could not be made, so those are known by their text.
"""

from __future__ import annotations

import os
import re
import sqlite3
from pathlib import Path

from sqlalchemy import URL

from evc.errors import DatabaseAway, DatabaseError, DatabaseReadOnly, SchemaMismatch

MAX_TEXT = 300
UPGRADE = "run `evc db upgrade`"

_Fault = tuple[type[DatabaseError], str]

_SQLITE: dict[int, _Fault] = {
    sqlite3.SQLITE_BUSY: (DatabaseAway, "locked by another process"),
    sqlite3.SQLITE_LOCKED: (DatabaseAway, "locked by this process"),
    sqlite3.SQLITE_FULL: (DatabaseAway, "no space is left on its disk"),
    sqlite3.SQLITE_IOERR: (DatabaseAway, "its disk failed or is full"),
    sqlite3.SQLITE_READONLY: (DatabaseReadOnly, "the file or its folder may only be read"),
    sqlite3.SQLITE_PERM: (DatabaseReadOnly, "the file may not be changed"),
    sqlite3.SQLITE_NOTADB: (DatabaseError, "the file is not an SQLite database"),
    sqlite3.SQLITE_CORRUPT: (DatabaseError, "the file is damaged: restore it from a backup"),
}

# by the longest prefix of the code that stands here
_POSTGRES: dict[str, _Fault] = {
    "08": (DatabaseAway, "the connection ended"),
    "25006": (DatabaseReadOnly, "the server only reads"),
    "28": (DatabaseError, "the server refused the login"),
    "3D000": (DatabaseAway, "the server has no such database"),
    "3F000": (SchemaMismatch, f"a schema is missing: {UPGRADE}"),
    "40": (DatabaseAway, "another transaction was in the way"),
    "42501": (DatabaseReadOnly, "the login may not do that"),
    "42703": (SchemaMismatch, f"a column is missing: {UPGRADE}"),
    "42P01": (SchemaMismatch, f"a table is missing: {UPGRADE}"),
    "53": (DatabaseAway, "the server has too little left"),
    "53100": (DatabaseAway, "no space is left on the server's disk"),
    "53300": (DatabaseAway, "the server has too many connections"),
    "55P03": (DatabaseAway, "locked by another session"),
    "57": (DatabaseAway, "the server stops, starts or cancelled the query"),
    "58": (DatabaseAway, "the server's disk failed"),
}
_REFUSED = re.compile(r"authentication failed|no password supplied|no pg_hba\.conf entry|role .* does not exist")
_LIBPQ_PREFIX = re.compile(r"^(?:connection failed: )?(?:connection to server .*? failed: )?(?:FATAL: +)?")


def database_name(url: URL) -> str:
    """Return ``url`` for a message: without password, driver and options."""
    plain = url.set(drivername=url.get_backend_name(), query={})
    return f"metrics database {plain.render_as_string(hide_password=True)}"


def translate(url: URL, error: BaseException) -> DatabaseError | None:
    """Return what ``error``, raised by the driver of ``url``, means to an operator.

    None where it says nothing about the database but about the statement: a fault of EVC itself.
    """
    if isinstance(error, sqlite3.Error):
        found = _sqlite_fault(url, error)
    elif type(error).__module__.startswith("psycopg"):
        found = _postgres_fault(error)
    else:
        found = None
    return found and found[0](f"{database_name(url)}: {_without_password(url, found[1])}")


def _sqlite_fault(url: URL, error: sqlite3.Error) -> _Fault | None:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF  # the rest is the extended code
    if code == sqlite3.SQLITE_CANTOPEN:
        return _cannot_open(Path(url.database or ""))
    if code == sqlite3.SQLITE_ERROR and "no such" in str(error):
        return SchemaMismatch, f"{error}: {UPGRADE}"
    return _SQLITE.get(code)


def _cannot_open(file: Path) -> _Fault:
    """Find out why, which SQLite does not say; by the effective user, as it opens files."""
    try:
        file.stat()
    except PermissionError:
        return DatabaseError, "its folder may not be entered by this user"
    except OSError:
        return _not_there(file.parent)
    if file.is_dir():
        return DatabaseError, "this is a folder, not a file"
    if not os.access(file, os.R_OK, effective_ids=True):
        return DatabaseError, "the file may not be read by this user"
    return DatabaseReadOnly, "the file or its folder may only be read"


def _not_there(folder: Path) -> _Fault:
    if not folder.is_dir():
        return DatabaseAway, "its folder does not exist"
    if not os.access(folder, os.W_OK, effective_ids=True):
        return DatabaseReadOnly, "the file does not exist and its folder may only be read"
    return SchemaMismatch, f"the file does not exist yet: {UPGRADE}"


def _postgres_fault(error: BaseException) -> _Fault | None:
    text = _first_line(error)
    code: str | None = getattr(error, "sqlstate", None)
    if code:
        known = [prefix for prefix in _POSTGRES if code.startswith(prefix)]
        if not known:
            return None
        kind, meaning = _POSTGRES[max(known, key=len)]
        return kind, f"{meaning} ({text})"
    if _REFUSED.search(text):
        return DatabaseError, f"the server refused the login ({text})"
    if type(error).__name__ == "ProgrammingError":
        return DatabaseError, text  # an option that libpq does not know
    return DatabaseAway, text


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    text = _LIBPQ_PREFIX.sub("", lines[0].strip())
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "..."


def _without_password(url: URL, text: str) -> str:
    return text.replace(str(url.password), "***") if url.password else text
