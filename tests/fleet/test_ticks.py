"""When sweeps take place."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evc.fleet.ticks import Ticks, is_due

TICKS = Ticks(start_ts=1_000_000_200, interval_s=30, count=10)


@pytest.mark.parametrize(
    ("late_s", "index"),
    [(-100, 0), (0, 0), (7.4, 0), (7.6, 1), (37, 1), (38, 2), (270, 9), (277, 9), (278, 10), (10_000, 10)],
)
def test_the_tick_to_keep_next(late_s: float, index: int) -> None:
    assert TICKS.next_index(TICKS.start_ts + late_s) == index


def test_ticks_are_an_interval_apart() -> None:
    assert [TICKS.at(index) - TICKS.start_ts for index in range(3)] == [0, 30, 60]


def test_the_ticks_of_a_window_leave_time_to_start_the_task_and_end_before_the_next_window() -> None:
    ticks = Ticks.of_window(1_000_000_200, 300, 30)
    assert (ticks.at(0), ticks.count, ticks.at(9)) == (1_000_000_210, 10, 1_000_000_480)


def test_what_has_no_cadence_or_was_never_read_is_due() -> None:
    assert is_due(0, 1_000_000_000, 1_000_000_000, 7)
    assert is_due(300, None, 1_000_000_000, 7)


@given(st.integers(1, 100_000), st.integers(1_000_000_000, 2_000_000_000))
def test_a_slow_probe_is_due_once_in_each_slot(node_id: int, start_ts: int) -> None:
    last, due = start_ts, []
    for tick_ts in range(start_ts + 30, start_ts + 3030, 30):
        if is_due(300, last, tick_ts, node_id):
            due.append(tick_ts)
            last = tick_ts
    assert len(due) == 10
    assert {later - earlier for earlier, later in pairwise(due)} == {300}


def test_nodes_do_not_all_run_their_slow_probes_in_the_same_sweep() -> None:
    start_ts = 1_000_000_200
    first = [
        next(tick for tick in range(start_ts + 30, start_ts + 600, 30) if is_due(300, start_ts, tick, node_id))
        for node_id in range(1000)
    ]
    assert max(first.count(tick) for tick in set(first)) < 150
