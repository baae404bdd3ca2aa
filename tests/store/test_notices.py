"""Events are told once, whoever asks, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, insert

from evc.fleet.notices import Event
from evc.store.events import record_event
from evc.store.notices import claim, confirm, release
from evc.store.tables import node_anomalies
from tests.store.batches import TS, add_nodes


@pytest.fixture
def filled(engine: Engine) -> Engine:
    with engine.begin() as connection:
        add_nodes(connection, 2)
        record_event(connection, 1, "down", "error", "gone", TS)
        record_event(connection, 2, "anomaly", "warning", "hot", TS + 1)
        record_event(connection, 1, "reboot", "info", "rebooted", TS + 2)
        record_event(connection, 2, "down", "error", "long ago", TS - 90_000)
    return engine


def taken(engine: Engine, severity: str = "warning") -> list[Event]:
    with engine.begin() as connection:
        return claim(connection, severity, TS - 86_400, TS + 10)


def test_what_is_new_and_bad_enough_is_told_once(filled: Engine) -> None:
    first = taken(filled)
    assert [(event.node_id, event.kind, event.severity, event.message) for event in first] == [
        (1, "down", "error", "gone"),
        (2, "anomaly", "warning", "hot"),
    ]
    assert taken(filled) == []
    with filled.begin() as connection:
        confirm(connection, first, TS + 11)
    assert taken(filled) == []
    assert [event.kind for event in taken(filled, "info")] == ["reboot"]


def test_what_could_not_be_sent_is_taken_again_and_what_was_sent_is_not(filled: Engine) -> None:
    first = taken(filled)
    with filled.begin() as connection:
        confirm(connection, first[:1], TS + 11)
        release(connection, first)
    assert taken(filled) == first[1:]


def test_two_at_once_share_nothing(filled: Engine) -> None:
    with ThreadPoolExecutor(4) as pool:
        shares = list(pool.map(lambda _: taken(filled), range(4)))
    assert sorted(len(share) for share in shares) == [0, 0, 0, 2]


def happen(engine: Engine, kind: str, severity: str, ts: int, node_id: int = 1) -> None:
    with engine.begin() as connection:
        record_event(connection, node_id, kind, severity, kind, ts)


def kinds(events: list[Event]) -> list[tuple[int, str]]:
    return [(event.node_id, event.kind) for event in events]


def test_the_end_of_what_was_told_is_told_once(filled: Engine) -> None:
    taken(filled)
    happen(filled, "up", "info", TS + 3)
    happen(filled, "up", "info", TS + 3, node_id=2)  # nobody heard that it was down
    assert kinds(taken(filled)) == [(1, "up")]
    happen(filled, "up", "info", TS + 4)
    assert taken(filled) == []
    happen(filled, "down", "error", TS + 5)
    happen(filled, "up", "info", TS + 6)
    happen(filled, "up", "info", TS + 7)  # of register_node, beside the sweep's
    assert kinds(taken(filled)) == [(1, "down"), (1, "up")]
    assert taken(filled) == []


def test_an_end_before_the_next_begin_is_no_news(filled: Engine) -> None:
    taken(filled)
    happen(filled, "up", "info", TS + 3)
    happen(filled, "down", "error", TS + 4)
    assert kinds(taken(filled)) == [(1, "down")]
    assert taken(filled) == []


def test_an_end_that_could_not_be_sent_is_taken_again(filled: Engine) -> None:
    taken(filled)
    happen(filled, "up", "info", TS + 3)
    for _ in range(2):
        found = taken(filled)
        assert kinds(found) == [(1, "up")]
        with filled.begin() as connection:
            release(connection, found)


def test_a_removal_ends_what_was_pending(filled: Engine) -> None:
    taken(filled)
    happen(filled, "removed", "info", TS + 3, node_id=2)
    happen(filled, "pending_cleanup", "warning", TS + 3)
    happen(filled, "removed", "info", TS + 4)
    assert kinds(taken(filled)) == [(1, "pending_cleanup"), (1, "removed")]


def test_the_end_of_an_anomaly_is_told_where_its_begin_was(filled: Engine) -> None:
    with filled.begin() as connection:
        values = {"node_id": 2, "value": 1.0, "score": 3.0, "message": ""}
        both = [
            {**values, "what": "cpu", "ts": TS, "end_ts": TS + 600},
            {**values, "what": "memory", "ts": TS, "end_ts": TS + 900},
        ]
        connection.execute(insert(node_anomalies), [*both, {**both[0], "node_id": 1, "ts": TS - 90_000}])
    assert (2, "anomaly") in kinds(taken(filled))
    happen(filled, "anomaly", "info", TS + 601, node_id=2)
    happen(filled, "anomaly", "info", TS + 601)  # nobody heard that it began
    assert kinds(taken(filled)) == [(2, "anomaly")]
    happen(filled, "anomaly", "info", TS + 900, node_id=2)
    assert kinds(taken(filled)) == [(2, "anomaly")]
    assert taken(filled) == []


def test_what_is_not_bad_enough_has_no_end(filled: Engine) -> None:
    assert kinds(taken(filled, "error")) == [(1, "down")]
    happen(filled, "pending_cleanup", "warning", TS + 3)
    happen(filled, "removed", "info", TS + 4)
    assert taken(filled, "error") == []
