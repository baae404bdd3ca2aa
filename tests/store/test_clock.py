"""Days on which rounds are done, and what they say of a clock."""

from __future__ import annotations

from sqlalchemy import Engine

from evc.store.clock import DAY_S, believed_now
from tests.store.batches import TS

DAY = TS - TS % DAY_S


def test_a_clock_that_goes_on_is_believed(engine: Engine) -> None:
    for ts in (TS, TS + 600, DAY + DAY_S - 1, DAY + DAY_S, DAY + 2 * DAY_S, DAY + 3 * DAY_S - 1):
        assert believed_now(engine, ts) == ts


def test_a_clock_that_was_ahead_is_not(engine: Engine) -> None:
    believed_now(engine, TS)
    believed_now(engine, TS + DAY_S)
    for ahead_s in (400 * DAY_S, 400 * DAY_S + 600):
        assert believed_now(engine, TS + DAY_S + ahead_s) == DAY + 3 * DAY_S
    for ts in (TS + DAY_S + 600, TS + 2 * DAY_S):
        assert believed_now(engine, ts) == ts
    assert believed_now(engine, TS + 500 * DAY_S) == DAY + 4 * DAY_S


def test_of_two_machines_one_of_which_is_ahead(engine: Engine) -> None:
    for day in range(3):
        now = TS + day * DAY_S
        assert believed_now(engine, now) == now
        assert believed_now(engine, now + 400 * DAY_S) == DAY + (day + 2) * DAY_S


def test_after_a_long_rest_the_next_day_is_believed(engine: Engine) -> None:
    believed_now(engine, TS)
    back = TS + 90 * DAY_S
    assert believed_now(engine, back) == DAY + 2 * DAY_S
    assert believed_now(engine, back + DAY_S) == back + DAY_S
