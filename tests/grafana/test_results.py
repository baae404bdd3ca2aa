"""That what boards say of result lines over a long range, counted by five minutes or the hour, is what the lines say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine

from tests.grafana import fleet
from tests.grafana.documents import load, queries
from tests.grafana.macros import expand
from tests.grafana.test_queries import ask, look
from tests.grafana.test_values import shown

HOUR_MS = 3_600_000
LINES = "inference_results"
TABLES = (LINES, "inference_runs_5m", "inference_runs_1h", "inference_results_1h")
CLASS = 0.29
"""How far a class of latencies reaches, and a percentile may be off."""


def lines(engine: Engine, what: str) -> list[Any]:
    return ask(engine, f"SELECT {what}").rows


def points(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [row for row in rows if row[-1] is not None]


@pytest.mark.parametrize(
    ("board", "title", "table", "interval_ms"),
    [
        ("evc-inference", "Errors", LINES, 299_000),
        ("evc-inference", "Errors", "inference_runs_5m", 300_000),
        ("evc-inference", "Errors", "inference_runs_5m", HOUR_MS - 1000),
        ("evc-inference", "Errors", "inference_runs_1h", HOUR_MS),
        ("evc-smart-farm", "Canopy cover", LINES, HOUR_MS - 1000),
        ("evc-smart-farm", "Canopy cover", "inference_results_1h", HOUR_MS),
    ],
)
def test_a_chart_reads_lines_or_counts(filled: Engine, board: str, title: str, table: str, interval_ms: int) -> None:
    sql = sql_over_a_week(filled, board, title, interval_ms)
    whole = answer_without(filled, sql)
    assert whole
    for other in TABLES:
        assert (answer_without(filled, sql, other) == whole) == (other != table)


def sql_over_a_week(engine: Engine, board: str, title: str, interval_ms: int = HOUR_MS) -> str:
    document = load(board, engine.dialect.name)
    asked = next(asked for asked in queries(document) if asked.name == title)
    return expand(asked.sql, look(document, fleet.WEEK, interval_ms), engine.dialect.name)


def answer_without(engine: Engine, sql: str, table: str = "", since: int = 0) -> list[Any]:
    """Return the rows of a query where a table has none from ``since`` on."""
    with engine.connect() as connection:
        cursor = connection.connection.cursor()
        if table:
            cursor.execute(f"DELETE FROM {table} WHERE ts >= {since}")
        cursor.execute(sql)
        rows = cursor.fetchall()
        connection.connection.rollback()
    return list(rows)


@pytest.mark.parametrize(
    ("board", "title", "interval_ms", "table"),
    [
        ("evc-inference", "At a glance", HOUR_MS, "inference_runs_1h"),
        ("evc-inference", "Throughput", HOUR_MS, "inference_runs_1h"),
        ("evc-inference", "Throughput", 300_000, "inference_runs_5m"),
        ("evc-inference", "Latency", HOUR_MS, "inference_runs_1h"),
        ("evc-inference", "Latency", 600_000, "inference_runs_5m"),
        ("evc-inference", "Errors", 300_000, "inference_runs_5m"),
        ("evc-inference", "Per model, node and digest", HOUR_MS, "inference_runs_1h"),
        ("evc-smart-farm", "Canopy cover", HOUR_MS, "inference_results_1h"),
        ("evc-smart-farm", "Newest pictures", HOUR_MS, "inference_results_1h"),
    ],
)
def test_what_is_not_counted_yet_comes_from_the_lines(
    filled: Engine, board: str, title: str, interval_ms: int, table: str
) -> None:
    sql = sql_over_a_week(filled, board, title, interval_ms)
    hour = (fleet.END - 600) // 3600 * 3600
    whole, without = answer_without(filled, sql), answer_without(filled, sql, table, hour)
    assert len(whole) == len(without)
    for row, same in zip(whole, without, strict=True):
        assert same == tuple(pytest.approx(value) if isinstance(value, float) else value for value in row)


def test_numbers_are_the_same_of_lines_and_of_hours(filled: Engine) -> None:
    short, long = (shown(filled, "evc-inference", "At a glance", range_) for range_ in (fleet.SHORT, fleet.WEEK))
    for name in ("Nodes", "Models", "Result lines", "Errors"):
        assert long.column(name) == short.column(name)


@pytest.mark.parametrize(("title", "value"), [("Throughput", "frame"), ("Errors", "error")])
def test_what_is_counted_is_counted_once(filled: Engine, title: str, value: str) -> None:
    ((count,),) = lines(filled, f"count(*) FROM inference_results WHERE kind = '{value}'")
    answer = shown(filled, "evc-inference", title, fleet.WEEK, HOUR_MS)
    per_step = 3600 if title == "Throughput" else 1
    assert sum(float(row[2]) for row in points(answer.rows)) * per_step == pytest.approx(count)


def test_percentiles_of_hours_are_near_those_of_the_lines(filled: Engine) -> None:
    answer = shown(filled, "evc-inference", "Latency", fleet.WEEK, HOUR_MS, model="reid")
    rows = points(answer.rows)
    assert rows
    for time, *found in rows:
        wanted = (
            f"latency_ms FROM inference_results WHERE model = 'reid' AND kind = 'frame' AND ts / 3600 * 3600 = {time}"
        )
        exact = np.percentile([row[0] for row in lines(filled, wanted)], [50, 95, 99])
        assert [float(value) for value in found] == pytest.approx(list(exact), rel=CLASS)


def test_nodes_are_compared_over_a_long_range_too(filled: Engine) -> None:
    short, long = (
        shown(filled, "evc-inference", "Per model, node and digest", range_) for range_ in (fleet.SHORT, fleet.WEEK)
    )
    assert [row[:4] for row in long.rows] == [row[:4] for row in short.rows]
    for of_lines, of_hours in zip(short.rows, long.rows, strict=True):
        assert float(of_hours[4]) == pytest.approx(float(of_lines[4]))
        assert [float(value) for value in of_hours[5:]] == pytest.approx([float(it) for it in of_lines[5:]], rel=CLASS)


def test_the_newest_picture_is_found_in_a_long_range(filled: Engine) -> None:
    short, week, long = (
        shown(filled, "evc-smart-farm", "Newest pictures", range_).rows
        for range_ in (fleet.SHORT, fleet.WEEK, fleet.LONG)
    )
    assert short == week == long
    assert len(short) == 1


@pytest.mark.parametrize(("title", "kind"), [("Canopy cover", "canopy_cover"), ("Health", "health")])
def test_a_step_of_hours_is_the_mean_of_its_pictures(filled: Engine, title: str, kind: str) -> None:
    rows = points(shown(filled, "evc-smart-farm", title, fleet.WEEK, 2 * HOUR_MS).rows)
    assert rows
    for time, _, value in rows:
        wanted = f"avg(value) FROM inference_results WHERE kind = '{kind}' AND ts / 7200 * 7200 = {time}"
        assert float(value) == pytest.approx(float(lines(filled, wanted)[0][0]))


def test_yellow_and_brown_are_told_together_over_a_long_range(filled: Engine) -> None:
    rows = points(shown(filled, "evc-smart-farm", "Yellow and brown", fleet.WEEK, HOUR_MS).rows)
    assert all(row[1:3] == (None, None) for row in rows)
    assert max(float(row[4]) for row in rows) == pytest.approx(0.3)
    assert all(0.14 < float(row[3]) < 0.2 for row in rows)
