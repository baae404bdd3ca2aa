"""Every query of every dashboard, on both databases, as Grafana asks it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.grafana import fleet
from tests.grafana.documents import UIDS, Asked, load, queries
from tests.grafana.macros import ALL, Range, Request, Value, expand

RANGES = {"short": (fleet.SHORT, 30_000), "week": (fleet.WEEK, 600_000), "long": (fleet.LONG, 7_200_000)}

# at the first look: all of everything, of single ones the first
CHOSEN: dict[str, Value] = {"group": ALL, "node": ALL, "model": ALL, "digest": ALL, "interval": "0"}
SINGLE: dict[str, dict[str, Value]] = {
    "evc-node": {"node": "cam-2"},
    "evc-rollouts": {"rollout": "2"},
    "evc-reid": {"gallery": "reid", "identity": "1"},
    "evc-smart-farm": {"index": "exg"},
}

# what has no rows over a range for a reason
NONE_EXPECTED: set[tuple[str, str]] = set()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a database answered."""

    columns: list[str]
    rows: list[tuple[Any, ...]]

    def column(self, name: str) -> list[Any]:
        """Return the values of a column."""
        place = self.columns.index(name)
        return [row[place] for row in self.rows]


def ask(engine: Engine, sql: str) -> Answer:
    """Run a query as the data source does: no parameters, nothing is escaped. It may only read."""
    postgresql = engine.dialect.name == "postgresql"
    with engine.connect() as connection:
        cursor = connection.connection.cursor()
        cursor.execute("SET TRANSACTION READ ONLY" if postgresql else "PRAGMA query_only = ON")
        try:
            cursor.execute(sql)
            return Answer([column[0] for column in cursor.description], [tuple(row) for row in cursor.fetchall()])
        finally:
            if not postgresql:
                cursor.execute("PRAGMA query_only = OFF")  # the connection goes back to others


def look(board: Mapping[str, Any], range_: Range, interval_ms: int, **chosen: Value) -> Request:
    """Return a request with the values of all variables of a dashboard."""
    given = {variable["name"]: variable for variable in board["templating"]["list"]}
    values = {**CHOSEN, **SINGLE.get(board["uid"], {}), **chosen}
    every = {name: variable["allValue"] for name, variable in given.items() if variable.get("includeAll")}
    return Request(range_, interval_ms, {name: values[name] for name in given}, every)


def step_ms(asked: Asked, interval_ms: int) -> int:
    """Return the panel's step: no shorter than the panel allows."""
    least = {"": 0, "30s": 30_000, "5m": 300_000}[asked.owner.get("interval", "")]
    return max(interval_ms, least)


def is_number(value: object) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def numbers(values: list[Any]) -> bool:
    """Whether Grafana takes a column for numbers: every value one, or nothing."""
    return all(value is None or is_number(value) for value in values)


# -- what a panel needs of an answer -----------------------------------------------------------------------------------


def check_series(asked: Asked, answer: Answer) -> None:
    assert answer.columns[0] == "time"
    times = answer.column("time")
    assert all(isinstance(time, int) for time in times)
    assert times == sorted(times), "a time series comes in order"
    texts = [name for name in answer.columns[1:] if not numbers(answer.column(name))]
    label = asked.owner["fieldConfig"]["defaults"].get("displayName")
    if label is None:
        assert not texts
        assert len(set(times)) == len(times)
        return
    named = label.removeprefix("${__field.labels.").removesuffix("}")
    assert answer.columns == ["time", named, "value"]
    assert texts in ([named], [])
    assert len({row[:2] for row in answer.rows}) == len(answer.rows), "two values of one series at one time"


def check_stat(asked: Asked, answer: Answer) -> None:
    assert len(answer.rows) <= 1
    for name in answer.columns:
        assert numbers(answer.column(name)) or asked.owner["fieldConfig"]["defaults"]["unit"] == "string"


def check_bars(asked: Asked, answer: Answer) -> None:
    del asked
    name, value = answer.columns
    assert all(isinstance(text, str) for text in answer.column(name))
    assert numbers(answer.column(value))


def check_map(asked: Asked, answer: Answer) -> None:
    if "source" in answer.columns:  # lines between the points of another query
        assert {"id", "source", "target"} <= set(answer.columns)
        return
    for name in ("latitude", "longitude"):
        assert all(is_number(value) for value in answer.column(name))
    for layer in asked.owner["options"]["layers"]:
        color = layer["config"]["style"]["color"].get("field")
        assert color is None or color in answer.columns


def check_annotation(asked: Asked, answer: Answer) -> None:
    del asked
    assert answer.columns == ["time", "text", "tags"]
    assert all(isinstance(time, int) for time in answer.column("time"))


def check_variable(asked: Asked, answer: Answer) -> None:
    del asked
    assert len(answer.columns) == 1
    assert all(isinstance(row[0], str) for row in answer.rows)


def check_table(asked: Asked, answer: Answer) -> None:
    del asked
    assert answer.columns


CHECKS = {
    "timeseries": check_series,
    "status-history": check_series,
    "heatmap": check_series,
    "stat": check_stat,
    "bargauge": check_bars,
    "geomap": check_map,
    "table": check_table,
    "annotation": check_annotation,
    "variable": check_variable,
}


def check_types(engine: Engine, answer: Answer) -> None:
    """The SQLite plugin gives a column the type of its first value and cuts later ones to it (pkg/plugin/query.go)."""
    if engine.dialect.name != "sqlite":
        return
    for name in answer.columns:
        kinds = {type(value) for value in answer.column(name) if value is not None}
        assert len(kinds) <= 1, f"{name}: {kinds}"


def check_overrides(asked: Asked, answer: Answer) -> None:
    """Every column that the panel has something to say about is there."""
    if len(asked.owner.get("targets", [])) > 1:
        return
    for override in asked.owner.get("fieldConfig", {}).get("overrides", []):
        if override["matcher"]["id"] == "byName":
            assert override["matcher"]["options"] in answer.columns


# -- the tests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("span", RANGES)
@pytest.mark.parametrize("uid", UIDS)
def test_every_query_gives_what_its_panel_needs(filled: Engine, uid: str, span: str) -> None:
    board = load(uid, filled.dialect.name)
    range_, interval_ms = RANGES[span]
    for asked in queries(board):
        sql = expand(asked.sql, look(board, range_, step_ms(asked, interval_ms)), filled.dialect.name)
        answer = ask(filled, sql)
        CHECKS[asked.kind](asked, answer)
        check_types(filled, answer)
        check_overrides(asked, answer)
        assert len(set(answer.columns)) == len(answer.columns)
        if (uid, asked.name) not in NONE_EXPECTED:
            assert any(value is not None for row in answer.rows for value in row), f"{asked.name} shows nothing"


@pytest.mark.parametrize("uid", UIDS)
def test_no_query_fails_where_there_are_no_data(bare: Engine, uid: str) -> None:
    board = load(uid, bare.dialect.name)
    for asked in queries(board):
        for range_, interval_ms in RANGES.values():
            request = look(board, range_, step_ms(asked, interval_ms))
            CHECKS[asked.kind](asked, ask(bare, expand(asked.sql, request, bare.dialect.name)))


@pytest.mark.parametrize("uid", UIDS)
def test_no_query_fails_over_a_time_before_the_data(filled: Engine, uid: str) -> None:
    board = load(uid, filled.dialect.name)
    for asked in queries(board):
        request = look(board, fleet.EMPTY, step_ms(asked, 60_000))
        CHECKS[asked.kind](asked, ask(filled, expand(asked.sql, request, filled.dialect.name)))


HOSTILE = ["x') OR 1 = 1 --", "'; DROP TABLE nodes; --", "$__unixEpochTo()", "\\"]


@pytest.mark.parametrize("uid", UIDS)
def test_what_the_reader_types_into_the_address_stays_a_text(filled: Engine, uid: str) -> None:
    board = load(uid, filled.dialect.name)
    names = [variable["name"] for variable in board["templating"]["list"] if variable["name"] != "interval"]
    for asked in queries(board):
        for name in names:
            if f"${{{name}:" not in asked.sql:
                continue
            request = look(board, fleet.SHORT, step_ms(asked, 30_000), **{name: HOSTILE[0]})
            some = ask(filled, expand(asked.sql, request, filled.dialect.name))
            many = look(board, fleet.SHORT, step_ms(asked, 30_000), **{name: [*HOSTILE[:2], HOSTILE[3]]})
            ask(filled, expand(asked.sql, many, filled.dialect.name))
            assert asked.kind == "stat" or not any(value is not None for row in some.rows for value in row), asked.name
