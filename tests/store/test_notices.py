"""Events are told once, whoever asks, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine

from evc.fleet.notices import Event
from evc.store.events import record_event
from evc.store.notices import claim, confirm, release
from tests.store.batches import TS, add_nodes


@pytest.fixture
def filled(engine: Engine) -> Engine:
    with engine.begin() as connection:
        add_nodes(connection, 2)
        record_event(connection, 1, "down", "error", "gone", TS)
        record_event(connection, 2, "anomaly", "warning", "hot", TS + 1)
        record_event(connection, 1, "up", "info", "answers", TS + 2)
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
    assert [event.kind for event in taken(filled, "info")] == ["up"]


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
