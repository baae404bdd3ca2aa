"""Two runs that sweep the same nodes tell of a change once, on both databases."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

import pytest
from sqlalchemy import Engine, select

from evc.store.database import open_engine
from evc.store.events import record_event
from evc.store.tables import node_events
from evc.store.writer import Batch, write
from tests.store.batches import TS, store_with_nodes


def event(after_s: int, kind: str, node_id: int = 1, message: str = "m") -> dict[str, Any]:
    return {"ts": TS + after_s, "node_id": node_id, "kind": kind, "severity": "error", "message": message}


def told(engine: Engine) -> list[tuple[int, int, str]]:
    found = node_events.c
    query = select(found.node_id, found.ts - TS, found.kind).order_by(found.node_id, found.ts, found.kind)
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(query)]


def write_each(engine: Engine, *events: dict[str, Any]) -> list[tuple[int, int, str]]:
    for each in events:
        write(engine, Batch({"node_events": [each]}))
    return told(engine)


def test_a_node_goes_down_once(engine: Engine) -> None:
    store_with_nodes(engine, 2)
    seen = (
        event(0, "down"),
        event(1, "down"),
        event(900, "down"),
        event(0, "down", 2),
        event(950, "up"),
        event(960, "down"),
    )
    assert write_each(engine, *seen) == [(1, 0, "down"), (1, 950, "up"), (1, 960, "down"), (2, 0, "down")]


def test_what_comes_late_is_held_against_what_came_after_it(engine: Engine) -> None:
    """As from the spool, or where the run that saw it first writes last."""
    store_with_nodes(engine, 1)
    seen = (event(100, "up"), event(50, "down"), event(49, "down"), event(99, "up"), event(60, "up"), event(20, "up"))
    assert write_each(engine, *seen) == [(1, 20, "up"), (1, 50, "down"), (1, 100, "up")]


def test_in_one_batch_too(engine: Engine) -> None:
    store_with_nodes(engine, 1)
    write(engine, Batch({"node_events": [event(20, "down"), event(10, "up"), event(0, "up"), event(21, "down")]}))
    assert told(engine) == [(1, 0, "up"), (1, 20, "down")]


@pytest.mark.parametrize(
    ("second", "is_new"),
    [
        (event(30, "host_key_changed"), False),
        (event(30, "host_key_changed", message="another"), True),
        (event(61, "host_key_changed"), True),
        (event(-60, "host_key_changed"), False),
        (event(30, "threshold"), True),
    ],
)
def test_what_has_no_opposite_is_told_once_a_minute(engine: Engine, second: dict[str, Any], is_new: bool) -> None:
    store_with_nodes(engine, 1)
    assert len(write_each(engine, event(0, "host_key_changed"), second)) == 1 + is_new


def test_a_reboot_is_one_whatever_the_uptime(engine: Engine) -> None:
    store_with_nodes(engine, 1)
    first, second = (event(at, "reboot", message=f"rebooted, up for {at} s") for at in (10, 12))
    assert write_each(engine, first, second) == [(1, 10, "reboot")]


def test_others_are_not_asked(engine: Engine) -> None:
    """A state that an operator's command records is not held against what a sweep sees."""
    store_with_nodes(engine, 1)
    with engine.begin() as connection:
        assert record_event(connection, 1, "removed", "info", "m", TS)
    assert write_each(engine, event(1, "removed", message="other")) == [(1, 0, "removed"), (1, 1, "removed")]


def _tell(url: str, seconds: range) -> None:
    engine = open_engine(url)
    try:
        for second in seconds:
            write(engine, Batch({"node_events": [event(second, "down", node_id) for node_id in range(1, 21)]}))
    finally:
        engine.dispose()


def test_of_two_that_write_at_once_one_tells(engine: Engine, processes: Executor) -> None:
    store_with_nodes(engine, 20)
    url = engine.url.render_as_string(hide_password=False)
    done = [processes.submit(_tell, url, range(start, 40, 2)) for start in (0, 1)]
    for future in done:
        future.result(60)
    assert [node_id for node_id, *_ in told(engine)] == list(range(1, 21))
