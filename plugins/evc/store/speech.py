"""The writer's statements as SQLite and as PostgreSQL understand them best.

SQLite is handed rows, one prepared statement run over them. PostgreSQL is handed columns, one statement for all rows:
measured against COPY into a temporary table, multi-row JSON and psycopg's executemany, this costs the least in both
processes, and the server sees one text per table, which it plans once.

Column and table names come from ``tables.py``; values never stand in a statement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from sqlalchemy import JSON, Column, Connection

from evc.store.arrays import Kind, kind_of, pack, register
from evc.store.rows import Shape, shape_of
from evc.store.tables import nodes

Rows = Sequence[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Change:
    """What to set in the table ``nodes``.

    :param columns: their names
    :param rows: node id, unix seconds of what is known (None where that is not known), and a value for each column
    """

    columns: tuple[str, ...]
    rows: Rows


class Speech(Protocol):
    """What the writer says to a database. Both return the number of rows that were added or changed."""

    def insert(self, connection: Connection, shape: Shape, rows: Rows) -> int:
        """Insert ``rows``, complete and in the order of ``shape``."""

    def change(self, connection: Connection, change: Change) -> int:
        """Update nodes."""


class _SQLite:
    def insert(self, connection: Connection, shape: Shape, rows: Rows) -> int:
        return self._run(connection, _sqlite_insert(shape.table.name), rows)

    def change(self, connection: Connection, change: Change) -> int:
        return self._run(connection, _sqlite_update(change.columns), change.rows)

    @staticmethod
    def _run(connection: Connection, sql: str, rows: Rows) -> int:
        return connection.exec_driver_sql(sql, list(rows)).rowcount if rows else 0


class _PostgreSQL:
    def __init__(self, connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        register(driver)

    def insert(self, connection: Connection, shape: Shape, rows: Rows) -> int:
        kinds = [kind_of(column) for column in shape.table.columns]
        return self._run(connection, _postgres_insert(shape.table.name), kinds, rows)

    def change(self, connection: Connection, change: Change) -> int:
        kinds = [kind_of(column) for column in _change_columns(change.columns)]
        self._lock(connection, [row[0] for row in change.rows])
        return self._run(connection, _postgres_update(change.columns), kinds, change.rows)

    @staticmethod
    def _run(connection: Connection, sql: str, kinds: list[Kind], rows: Rows) -> int:
        if not rows:
            return 0
        columns = zip(kinds, zip(*rows, strict=True), strict=True)
        return connection.exec_driver_sql(sql, tuple(pack(kind, list(column)) for kind, column in columns)).rowcount

    @staticmethod
    def _lock(connection: Connection, ids: list[int]) -> None:
        """Lock the rows in the order of their id, which an UPDATE of many rows does not promise."""
        sql = "SELECT id FROM nodes WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE"
        connection.exec_driver_sql(sql, (pack(kind_of(nodes.c.id), ids),))


def speech_for(connection: Connection) -> Speech:
    """Return what to say to the database behind ``connection``."""
    return _SQLite() if connection.dialect.name == "sqlite" else _PostgreSQL(connection)


# -- INSERT ------------------------------------------------------------------------------------------------------------


def _insert(name: str, source: str) -> str:
    shape = shape_of(name)
    columns = ", ".join(f'"{column}"' for column in shape.names)
    return f"INSERT INTO {name} ({columns}) {source} {_on_conflict(shape)}"


def _on_conflict(shape: Shape) -> str:
    if not shape.newest_wins:
        return "ON CONFLICT DO NOTHING"
    key = ", ".join(shape.names[index] for index in shape.key)
    others = [name for index, name in enumerate(shape.names) if index not in shape.key]
    values = ", ".join(f'"{name}" = excluded."{name}"' for name in others)
    return f"ON CONFLICT ({key}) DO UPDATE SET {values} WHERE excluded.ts > {shape.table.name}.ts"


@cache
def _sqlite_insert(name: str) -> str:
    return _insert(name, f"VALUES ({', '.join('?' * len(shape_of(name).names))})")


@cache
def _postgres_insert(name: str) -> str:
    columns = list(shape_of(name).table.columns)
    values = ", ".join(f"c{i}::json" if isinstance(column.type, JSON) else f"c{i}" for i, column in enumerate(columns))
    return _insert(name, f"SELECT {values} FROM {_unnest(columns)}")  # noqa: S608


def _unnest(columns: Sequence[Column[Any]]) -> str:
    arrays = ", ".join(f"%s::{kind_of(column).name}[]" for column in columns)
    return f"unnest({arrays}) AS given({', '.join(f'c{index}' for index in range(len(columns)))})"


# -- UPDATE nodes ------------------------------------------------------------------------------------------------------


def _change_columns(columns: tuple[str, ...]) -> list[Column[Any]]:
    return [nodes.c.id, nodes.c.registered_ts, *(nodes.c[name] for name in columns)]


def _update(columns: tuple[str, ...], value: Callable[[int], str], source: str, differs: str) -> str:
    """Return the UPDATE that sets ``columns``.

    :param value: from the position in a row of :class:`Change` to what stands for its value
    :param differs: the operator that compares, NULL included
    """
    given = {name: value(index) for index, name in enumerate(columns, start=2)}
    sets = ", ".join(f'"{name}" = {new}' for name, new in given.items())
    if columns == ("last_seen_ts",):
        rule = f"(last_seen_ts IS NULL OR last_seen_ts < {value(2)})"
    elif columns == ("host_key",):
        rule = "host_key IS NULL"
    else:
        newer = f"SELECT 1 FROM node_readings AS r WHERE r.node_id = {value(0)} AND r.ts > {value(1)}"  # noqa: S608
        other = " OR ".join(f'nodes."{name}" {differs} {new}' for name, new in given.items())
        rule = f"status <> 'pending_cleanup' AND NOT EXISTS ({newer}) AND ({other})"
    return f"UPDATE nodes SET {sets}{source} WHERE nodes.id = {value(0)} AND removed_ts IS NULL AND {rule}"  # noqa: S608


@cache
def _sqlite_update(columns: tuple[str, ...]) -> str:
    return _update(columns, lambda index: f"?{index + 1}", "", "IS NOT")


@cache
def _postgres_update(columns: tuple[str, ...]) -> str:
    source = f" FROM {_unnest(_change_columns(columns))}"
    return _update(columns, lambda index: f"given.c{index}", source, "IS DISTINCT FROM")
