"""Anomalies over rollups on both databases: read, judged, kept."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import Engine, insert, select, update

from evc.anomalies.judge import Finding, judge
from evc.anomalies.watched import WATCHED
from evc.anomalies.windows import BUCKET_S, DAY_S, day_times, recent_times, week_times
from evc.store.anomalies import KIND, newest_bucket, read_watch, record_findings
from evc.store.events import event_rows
from evc.store.tables import node_anomalies, node_samples_5m, nodes
from tests.store.batches import TS, add_nodes

NOW = TS - TS % BUCKET_S
PLACE = {quantity.name: place for place, quantity in enumerate(WATCHED)}


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """Two nodes with four weeks of the buckets that count, and others around them."""
    windows = [recent_times(NOW), *week_times(NOW), *day_times(NOW)]
    times = sorted({ts for window in windows for ts in window} | {NOW - 5 * DAY_S - 7200, NOW + BUCKET_S})
    rows = [
        {
            "ts": ts, "node_id": node, "samples": 10, "up_ratio": 1.0, "cpu_usage_ratio_avg": 0.1 * node,
            "memory_available_bytes_avg": 6e9, "memory_total_bytes": 8_000_000_000, "storage_used_bytes_avg": 1e10,
            "storage_total_bytes": 40_000_000_000, "temperature_celsius_avg": None if node == 2 else 50.0,
        }
        for ts in times
        for node in (1, 2)
    ]  # fmt: skip
    with engine.begin() as connection:
        add_nodes(connection, 2)
        connection.execute(insert(node_samples_5m), rows)
    return engine


def _set(engine: Engine, node: int, cpu: float) -> None:
    recent = node_samples_5m.c.ts.in_(recent_times(NOW))
    with engine.begin() as connection:
        which = update(node_samples_5m).where(recent, node_samples_5m.c.node_id == node)
        connection.execute(which.values(cpu_usage_ratio_avg=cpu))


def _look(engine: Engine) -> int:
    with engine.begin() as connection:
        watched = read_watch(connection, NOW)
        return record_findings(connection, watched, judge(watched.watch), NOW)


def test_each_value_stands_in_its_place(filled: Engine) -> None:
    with filled.connect() as connection:
        watched = read_watch(connection, NOW)
    watch = watched.watch
    assert watched.ids == [1, 2]
    assert watch.recent[:, PLACE["cpu"], 0].tolist() == [0.1, 0.2]
    assert watch.weeks[:, PLACE["memory"]] == pytest.approx(0.25)
    assert watch.days[:, PLACE["storage"]] == pytest.approx(0.25)
    assert np.isnan(watch.recent[1, PLACE["temperature"]]).all()
    assert np.isnan(watch.weeks[:, PLACE["receive"]]).all()


def test_an_anomaly_begins_and_ends_once(filled: Engine) -> None:
    assert _look(filled) == 0
    _set(filled, 2, 0.95)
    assert _look(filled) == 1
    assert _look(filled) == 0  # a retry
    with filled.connect() as connection:
        (event,) = event_rows(connection, kind=KIND)
        (row,) = connection.execute(select(node_anomalies)).all()
    assert (event["node_id"], event["severity"]) == (2, "warning")
    assert event["message"] == "cpu 0.95, usually 0.20 at this hour of the week"
    assert (row.node_id, row.what, row.ts, row.end_ts, row.value) == (2, "cpu", NOW, None, 0.95)
    _set(filled, 2, 0.2)
    _look(filled)
    with filled.connect() as connection:
        (row,) = connection.execute(select(node_anomalies)).all()
    assert row.end_ts == NOW


def test_a_removed_node_is_not_looked_at_and_no_node_is_no_fault(filled: Engine) -> None:
    _set(filled, 2, 0.95)
    with filled.begin() as connection:
        connection.execute(update(nodes).where(nodes.c.id == 2).values(removed_ts=NOW))
    assert _look(filled) == 0
    with filled.begin() as connection:
        connection.execute(update(nodes).values(removed_ts=NOW))
    assert _look(filled) == 0


def test_totals_of_nothing_are_unknown(filled: Engine) -> None:
    with filled.begin() as connection:
        nothing = {"memory_total_bytes": 0, "storage_total_bytes": 0}
        connection.execute(update(node_samples_5m).where(node_samples_5m.c.node_id == 1).values(nothing))
        watched = read_watch(connection, NOW)
    assert np.isnan(watched.watch.recent[0, [PLACE["memory"], PLACE["storage"]]]).all()
    assert watched.watch.recent[1, PLACE["memory"]] == pytest.approx(0.25)
    assert _look(filled) == 0


def test_the_newest_bucket_is_the_last_that_was_made(filled: Engine) -> None:
    with filled.connect() as connection:
        assert newest_bucket(connection, NOW) == NOW
        assert newest_bucket(connection, NOW + 9 * BUCKET_S) == NOW + BUCKET_S
        assert newest_bucket(connection, NOW + BUCKET_S + 3600) is None


def _finding(what: str, begins: bool = True) -> Finding:
    return Finding(1, what, begins, 1.0, 3.0, f"{what} {begins}")


def _record(engine: Engine, *findings: Finding) -> int:
    with engine.begin() as connection:
        return record_findings(connection, read_watch(connection, NOW), findings, NOW)


def test_a_second_look_at_a_bucket_says_what_is_new(filled: Engine) -> None:
    assert _record(filled, _finding("cpu")) == 1
    assert _record(filled, _finding("memory"), _finding("cpu")) == 1  # cpu: of a look at the same time
    assert _record(filled, _finding("cpu", begins=False)) == 1
    assert _record(filled, _finding("cpu", begins=False)) == 0
    with filled.connect() as connection:
        events = sorted((event["ts"], event["severity"], event["message"]) for event in event_rows(connection))
    assert events == [
        (NOW, "warning", "cpu True"), (NOW + 1, "warning", "memory True"), (NOW + 2, "info", "cpu False")
    ]  # fmt: skip


def test_one_that_another_look_began_in_an_earlier_bucket_is_one(filled: Engine) -> None:
    _record(filled, _finding("cpu"))
    with filled.begin() as connection:
        watched = read_watch(connection, NOW)
        assert record_findings(connection, watched, [_finding("cpu")], NOW + BUCKET_S) == 0


def test_those_of_a_removed_node_end(filled: Engine) -> None:
    _record(filled, _finding("cpu"))
    with filled.begin() as connection:
        connection.execute(update(nodes).where(nodes.c.id == 2).values(removed_ts=NOW))
    assert _look(filled) == 0
    with filled.connect() as connection:
        assert list(connection.execute(select(node_anomalies.c.end_ts)).scalars()) == [NOW]
