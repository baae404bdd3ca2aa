"""That a chart reads one table of samples, the one that fits its step, and draws gaps as gaps."""

from __future__ import annotations

import re
import sqlite3

import pytest
from sqlalchemy import Engine

from tests.grafana import fleet
from tests.grafana.documents import load, panels, sql_of
from tests.grafana.macros import Range, Value, expand
from tests.grafana.test_queries import ask, look
from tools.dashboards.dialects import DIALECTS, Dialect
from tools.dashboards.series import ROLLUPS, SAMPLES, readings, wide

BY_NAME = {dialect.name: dialect for dialect in DIALECTS}
TABLES = (SAMPLES, *ROLLUPS.values())
STEPS = [
    (30_000, "0", "node_samples"),
    (240_000, "0", "node_samples"),
    (300_000, "0", "node_samples_5m"),
    (1_800_000, "0", "node_samples_5m"),
    (3_600_000, "0", "node_samples_1h"),
    (10_800_000, "0", "node_samples_1h"),
    (21_600_000, "0", "node_samples_6h"),
    (43_200_000, "0", "node_samples_6h"),
    (86_400_000, "0", "node_samples_1d"),
    (604_800_000, "0", "node_samples_7d"),
    (30_000, "300", "node_samples_5m"),
    (30_000, "86400", "node_samples_1d"),
]


def _cpu(backend: str, range_: Range, interval_ms: int, interval: Value = "0") -> str:
    board = load("evc-node", backend)
    panel = next(panel for panel in panels(board) if panel["title"] == "CPU")
    return expand(sql_of(panel["targets"][0]), look(board, range_, interval_ms, interval=interval), backend)


@pytest.mark.parametrize(("interval_ms", "interval", "table"), STEPS)
def test_a_chart_reads_one_table(filled: Engine, interval_ms: int, interval: str, table: str) -> None:
    """And what that has not got yet, of the one below."""
    sql = _cpu(filled.dialect.name, fleet.LONG, interval_ms, interval)
    if filled.dialect.name == "sqlite":
        assert _worked_through(filled, sql) == [table]
    else:
        assert _planned(filled, sql) == sorted(TABLES[max(TABLES.index(table) - 1, 0) : TABLES.index(table) + 1])


@pytest.mark.parametrize(("interval_ms", "table"), [(300_000, "node_samples_5m"), (3_600_000, "node_samples_1h")])
def test_what_is_not_rolled_up_yet_is_there_all_the_same(filled: Engine, interval_ms: int, table: str) -> None:
    sql = _cpu(filled.dialect.name, fleet.SHORT, interval_ms)
    whole = ask(filled, sql).rows
    with filled.connect() as connection:
        connection.exec_driver_sql(f"DELETE FROM {table} WHERE ts = (SELECT max(ts) FROM {table})")
        cursor = connection.connection.cursor()
        cursor.execute(sql)
        rows = [tuple(row) for row in cursor.fetchall()]
        connection.rollback()
    assert rows[-1][1:] == pytest.approx(whole[-1][1:])
    assert [row[0] for row in rows] == [row[0] for row in whole]


def _planned(engine: Engine, sql: str) -> list[str]:
    """Return the tables in PostgreSQL's plan: it drops branches whose condition is false when it plans.

    A partition begins with the name of its table.
    """
    plan = "\n".join(row[0] for row in ask(engine, f"EXPLAIN {sql}").rows)
    scanned = re.findall(r" on (node_samples\w*)", plan)
    return sorted({max((name for name in TABLES if relation.startswith(name)), key=len) for relation in scanned})


def _worked_through(engine: Engine, sql: str) -> list[str]:
    """Return the tables without whose rows SQLite has less to do: its plan names all, its program jumps over two."""
    most = _steps(engine, sql)
    return [name for name in TABLES if _steps(engine, sql, without=name) < 0.95 * most]


def _steps(engine: Engine, sql: str, without: str | None = None) -> int:
    """Return how many hundred steps SQLite's machine takes for a query."""
    counted = 0

    def count() -> int:
        nonlocal counted
        counted += 1
        return 0

    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        if without:
            driver.execute(f"DELETE FROM {without}")
        driver.set_progress_handler(count, 100)
        driver.execute(sql).fetchall()
        driver.set_progress_handler(None, 0)
        driver.rollback()
    return counted


def test_long_ranges_reach_back_as_far_as_the_rollups(filled: Engine) -> None:
    backend = filled.dialect.name
    for range_, interval_ms in ((fleet.WEEK, 600_000), (fleet.LONG, 7_200_000)):
        rows = [row for row in ask(filled, _cpu(backend, range_, interval_ms)).rows if row[1] is not None]
        assert rows[0][0] <= range_.begin + 2 * interval_ms / 1000
        assert rows[-1][0] >= range_.end - 7200


def test_a_time_without_sweeps_is_a_gap(filled: Engine) -> None:
    answer = ask(filled, _cpu(filled.dialect.name, fleet.SHORT, 30_000))
    inside = [row for row in answer.rows if fleet.GAP.begin <= row[0] < fleet.GAP.end]
    outside = [row for row in answer.rows if row[0] < fleet.GAP.begin or fleet.GAP.end <= row[0] < fleet.END]
    assert len(inside) == (fleet.GAP.end - fleet.GAP.begin) / 30
    assert all(value is None for row in inside for value in row[1:])
    assert all(row[1] is not None for row in outside)


def test_a_time_in_which_the_node_was_down_is_a_gap(filled: Engine) -> None:
    board = load("evc-node", filled.dialect.name)
    panel = next(panel for panel in panels(board) if panel["title"] == "CPU")
    request = look(board, fleet.SHORT, 30_000, node="hill")
    answer = ask(filled, expand(sql_of(panel["targets"][0]), request, filled.dialect.name))
    assert all(row[1] is None for row in answer.rows if row[0] > fleet.END - 1200)


@pytest.mark.parametrize("title", ["Temperature, by zone", "Receive, by interface"])
def test_a_gap_of_several_series_breaks_each(filled: Engine, title: str) -> None:
    """The data sources make one table of the rows: a time at which one series has a row breaks all that have none."""
    board = load("evc-node", filled.dialect.name)
    panel = next(panel for panel in panels(board) if panel["title"] == title)
    answer = ask(filled, expand(sql_of(panel["targets"][0]), look(board, fleet.SHORT, 30_000), filled.dialect.name))
    inside = [row for row in answer.rows if fleet.GAP.begin <= row[0] < fleet.GAP.end]
    assert len(inside) == (fleet.GAP.end - fleet.GAP.begin) / 30
    assert {row[1] for row in inside} <= {row[1] for row in answer.rows if row[2] is not None}, (
        "no series without a name"
    )


def test_a_step_is_the_mean_of_its_samples(filled: Engine) -> None:
    dialect: Dialect = BY_NAME[filled.dialect.name]
    source = readings(dialect, {"load": "load1_avg"}, f"node_id = {fleet.CAM_1}")
    board = load("evc-node", dialect.name)
    request = look(board, fleet.SHORT, 120_000)
    answer = ask(filled, expand(wide(dialect, source, {"Load": "avg(load)"}), request, dialect.name))
    begin = answer.rows[3][0]
    samples = ask(
        filled, f"SELECT load1 FROM node_samples WHERE node_id = {fleet.CAM_1} AND ts >= {begin} AND ts < {begin + 120}"
    ).column("load1")
    assert len(samples) == 4
    assert answer.rows[3][1] == pytest.approx(sum(samples) / 4)
