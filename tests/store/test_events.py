from __future__ import annotations

import pytest
from sqlalchemy import Engine

from evc.store.events import event_rows, record_event
from evc.store.nodes import remove_node
from tests.store.batches import TS, store_with_nodes


def test_events_come_newest_first(engine: Engine) -> None:
    ids = store_with_nodes(engine, 2)
    with engine.begin() as connection:
        record_event(connection, ids[0], "down", "error", "no answer", TS)
        record_event(connection, ids[1], "reboot", "warning", "rebooted", TS + 30)
        record_event(connection, ids[0], "up", "info", "answers again", TS + 60)
        rows = event_rows(connection)
        assert [(row["ts"], row["node"], row["kind"]) for row in rows] == [
            (TS + 60, "n1", "up"),
            (TS + 30, "n2", "reboot"),
            (TS, "n1", "down"),
        ]
        assert rows[2] == {
            "ts": TS, "node_id": ids[0], "node": "n1", "kind": "down", "severity": "error", "message": "no answer",
        }  # fmt: skip
        assert [row["kind"] for row in event_rows(connection, node="n1")] == ["up", "down"]
        assert [row["node"] for row in event_rows(connection, kind="reboot")] == ["n2"]
        assert [row["kind"] for row in event_rows(connection, limit=1)] == ["up"]
        assert event_rows(connection, node="ghost") == []


def test_the_same_event_twice_is_one(engine: Engine) -> None:
    ids = store_with_nodes(engine, 1)
    with engine.begin() as connection:
        record_event(connection, ids[0], "down", "error", "no answer", TS)
        record_event(connection, ids[0], "down", "error", "no answer at all", TS)
        assert [row["message"] for row in event_rows(connection)] == ["no answer"]


def test_a_removed_node_keeps_its_events(engine: Engine) -> None:
    ids = store_with_nodes(engine, 1)
    with engine.begin() as connection:
        record_event(connection, ids[0], "down", "error", "no answer", TS)
        remove_node(connection, "n1", TS + 1)
        assert len(event_rows(connection, node="n1")) == 1


def test_an_event_has_a_known_severity(engine: Engine) -> None:
    ids = store_with_nodes(engine, 1)
    with engine.begin() as connection, pytest.raises(ValueError, match="info, warning, error"):
        record_event(connection, ids[0], "down", "fatal", "no answer", TS)
