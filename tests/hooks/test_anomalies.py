"""A look at all nodes, by the operator, over a database of its own."""

from __future__ import annotations

import logging
import time

import pytest
from sqlalchemy import insert

from evc.anomalies.windows import BUCKET_S, day_times, recent_times, week_times
from evc.fleet.nodes import Node
from evc.hooks.anomalies import AnomaliesHook
from evc.store.nodes import store_node
from evc.store.tables import node_samples_5m
from tests.servers.airflow import DagRunner


def fill(hook: AnomaliesHook, last: int) -> None:
    """Put in a node that is hotter than usual, ``last`` being its newest bucket."""
    with hook.engine.begin() as connection:
        node_id, _ = store_node(connection, Node(name="edge-1", host="192.0.2.1"), last)
        recent = recent_times(last)
        times = {ts for window in (recent, *week_times(last), *day_times(last)) for ts in window}
        rows = [
            {
                "ts": ts,
                "node_id": node_id,
                "samples": 10,
                "up_ratio": 1.0,
                "temperature_celsius_avg": 78.0 if ts in recent else 50.0 + ts % 7,
            }
            for ts in sorted(times)
        ]
        connection.execute(insert(node_samples_5m), rows)


def test_a_look_says_what_is_unusual_and_why(dag_runner: DagRunner, caplog: pytest.LogCaptureFixture) -> None:
    hook = AnomaliesHook(logging.getLogger("tests.anomalies"))
    now = int(time.time())
    last = (now - 60) // BUCKET_S * BUCKET_S - BUCKET_S
    fill(hook, last)
    with caplog.at_level("INFO"):
        assert hook.look(now) == {"nodes": 1, "begun": 1, "ended": 0}
    assert "edge-1: temperature 78 °C, usually 50 °C to 56 °C at this hour of the week" in caplog.text
    assert "nodes looked at: 1, in" in caplog.text
    assert hook.look(now) == {"nodes": 1, "begun": 0, "ended": 0}


def test_where_nothing_was_rolled_up_yet_is_no_warning(dag_runner: DagRunner, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert AnomaliesHook(logging.getLogger("tests.anomalies")).look() == {"nodes": 0, "begun": 0, "ended": 0}
    assert [(it.levelname, it.message) for it in caplog.records if it.name == "tests.anomalies"] == [
        ("INFO", "no samples are rolled up yet: nothing to look at")
    ]


def test_where_the_last_bucket_is_not_made_yet_the_one_before_is_looked_at(
    dag_runner: DagRunner, caplog: pytest.LogCaptureFixture
) -> None:
    hook = AnomaliesHook(logging.getLogger("tests.anomalies"))
    made = int(time.time()) // BUCKET_S * BUCKET_S
    fill(hook, made)
    now = made + 2 * BUCKET_S + 70  # just after the next one is over
    assert hook.look(now) == {"nodes": 1, "begun": 1, "ended": 0}
    with caplog.at_level("WARNING"):
        assert hook.look(now + 3600) == {"nodes": 0, "begun": 0, "ended": 0}
    assert "no samples of the last hour are rolled up" in caplog.text
