"""What Grafana makes of a query before a database sees it, after the sources of Grafana 13 and of the SQLite plugin 3 and 4.

Variables and the range, in the browser: ``packages/scenes/src/variables/interpolation`` of grafana/scenes (format
``sqlstring`` quotes each value and doubles quotes within; a custom "all" value goes in as it stands; ``$__from``,
``$__to`` are milliseconds; ``$__interval_ms`` is the panel's). Then, on the server, for PostgreSQL:
``pkg/tsdb/grafana-postgresql-datasource``, ``sqleng`` (``$__interval_ms``, ``$__interval``, ``$__unixEpochFrom()``,
``$__unixEpochTo()``) and ``macros.go`` (every other ``$name(...)``; one that it does not know is an error). For SQLite:
``pkg/plugin/variables.go`` (``$__from``, ``$__to``) and ``macros.go`` of fr-ser/grafana-sqlite-datasource. Rules of alerts
come to the server as they stand: no variables, no ``$__from`` for PostgreSQL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

ALL = "$__all"

Value = str | Sequence[str]


@dataclass(frozen=True, slots=True)
class Range:
    """The range that a dashboard shows, unix seconds."""

    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Request:
    """One look at a dashboard: its range, the length of a step, and what the reader chose."""

    range: Range
    interval_ms: int = 30_000
    variables: Mapping[str, Value] = field(default_factory=dict)
    all_values: Mapping[str, str] = field(default_factory=dict)
    """By variable, what its JSON says as ``allValue``."""


class UnknownMacro(Exception):
    """The server would answer with an error."""


def in_browser(sql: str, request: Request) -> str:
    """Return the query as the browser sends it."""

    def value(match: re.Match[str]) -> str:
        name, _, form = (match["braced"] or match["plain"]).partition(":")
        builtin = {
            "__from": request.range.begin * 1000, "__to": request.range.end * 1000, "__interval_ms": request.interval_ms
        }  # fmt: skip
        if name in builtin:
            return str(builtin[name])
        if name not in request.variables:
            return match[0]
        return _formatted(request.variables[name], form, request.all_values.get(name))

    return re.sub(r"\$\{(?P<braced>\w+(?::\w+)?)\}|\$(?P<plain>\w+)", value, sql)


def _formatted(value: Value, form: str, all_value: str | None) -> str:
    if value == ALL:
        assert all_value is not None, "the variable has no value for all"
        return all_value
    assert form == "sqlstring", f"a variable is pasted raw, or with {form!r}"
    values = [value] if isinstance(value, str) else value
    return ",".join("'" + text.replace("'", "''") + "'" for text in values)


def for_postgresql(sql: str, request: Request) -> str:
    """Return the query as Grafana's server sends it to PostgreSQL."""
    begin, end = request.range.begin, request.range.end
    sql = sql.replace("$__interval_ms", str(request.interval_ms))
    sql = sql.replace("$__unixEpochFrom()", str(begin)).replace("$__unixEpochTo()", str(end))

    def macro(match: re.Match[str]) -> str:
        if match[1] != "__unixEpochFilter":
            raise UnknownMacro(match[0])
        column = match[2].split(",")[0].strip()
        return f"{column} >= {begin} AND {column} <= {end}"

    return re.sub(r"\$([_a-zA-Z0-9]+)\(([^)]*)\)", macro, sql)


def for_sqlite(sql: str, request: Request) -> str:
    """Return the query as the plugin sends it to SQLite. None of its macros is used here: each would be an error."""
    sql = sql.replace("$__from", str(request.range.begin * 1000)).replace("$__to", str(request.range.end * 1000))
    if found := re.search(r"\$__\w+", sql):
        raise UnknownMacro(found[0])
    return sql


def expand(sql: str, request: Request, backend: str) -> str:
    """Return what the database gets of a dashboard's query."""
    return on_server(in_browser(sql, request), request, backend)


def on_server(sql: str, request: Request, backend: str) -> str:
    """Return what the database gets of a query that comes from no browser: that of an alert."""
    expanded = for_postgresql(sql, request) if backend == "postgresql" else for_sqlite(sql, request)
    assert "$" not in re.sub(r"'[^']*'", "", expanded), f"something is left: {expanded}"
    return expanded
