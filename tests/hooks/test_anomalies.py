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


def test_a_look_says_what_is_unusual_and_why(dag_runner: DagRunner, caplog: pytest.LogCaptureFixture) -> None:
    hook = AnomaliesHook(logging.getLogger("tests.anomalies"))
    now = int(time.time())
    last = (now - 60) // BUCKET_S * BUCKET_S - BUCKET_S
    with hook.engine.begin() as connection:
        node_id, _ = store_node(connection, Node(name="edge-1", host="192.0.2.1"), now)
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
    with caplog.at_level("INFO"):
        assert hook.look(now) == {"nodes": 1, "begun": 1, "ended": 0}
    assert "edge-1: temperature 78 °C, usually 50 °C to 56 °C at this hour of the week" in caplog.text
    assert "nodes looked at: 1, in" in caplog.text
    assert hook.look(now) == {"nodes": 1, "begun": 0, "ended": 0}
