"""Two readings of /proc/stat."""

from __future__ import annotations

import pytest

from evc.errors import ParseError
from evc.probes import cpu
from evc.probes.answer import Answer
from evc.probes.probe import Before

THEN = [1000, 10, 500, 8000, 300, 20, 30, 40]
#       user nice sys  idle iow irq soft steal


def test_the_share_of_busy_time() -> None:
    now = [1100, 10, 550, 8300, 340, 20, 30, 50]
    assert cpu.shares(THEN, now) == {"cpu_usage_ratio": 0.32, "cpu_iowait_ratio": 0.08, "cpu_steal_ratio": 0.02}


def test_guest_time_is_inside_user_time() -> None:
    idle, guest = "cpu  1000 0 0 1000 0 0 0 0 0 0", "cpu  1100 0 0 1100 0 0 0 0 100 0"
    assert cpu.shares(cpu.parse(idle), cpu.parse(guest))["cpu_usage_ratio"] == 0.5


def test_steal_counts_as_busy() -> None:
    now = [*THEN[:3], THEN[3] + 50, *THEN[4:7], THEN[7] + 50]
    assert cpu.shares(THEN, now) == {"cpu_usage_ratio": 0.5, "cpu_iowait_ratio": 0.0, "cpu_steal_ratio": 0.5}


def test_iowait_that_goes_back_is_no_time() -> None:
    now = [THEN[0] + 50, *THEN[1:3], THEN[3] + 50, THEN[4] - 40, *THEN[5:]]
    assert cpu.shares(THEN, now) == {"cpu_usage_ratio": 0.5, "cpu_iowait_ratio": 0.0, "cpu_steal_ratio": 0.0}


def test_idle_that_goes_back_is_no_time() -> None:
    now = [THEN[0] + 50, *THEN[1:3], THEN[3] - 7, THEN[4] + 50, *THEN[5:]]
    assert cpu.shares(THEN, now)["cpu_usage_ratio"] == 0.5


def test_no_tick_between_two_readings_gives_nothing() -> None:
    assert cpu.shares(THEN, THEN) == {}
    assert cpu.shares(THEN, [time - 1 for time in THEN]) == {}


def test_kernels_with_fewer_columns() -> None:
    assert cpu.parse("cpu  1 2 3 4") == [1, 2, 3, 4]
    assert cpu.shares([1, 2, 3, 4], [2, 2, 3, 7]) == {"cpu_usage_ratio": 0.25}
    assert cpu.shares([1, 2, 3, 4, 5, 6, 7], [2, 2, 3, 7, 5, 6, 7]) == {
        "cpu_usage_ratio": 0.25,
        "cpu_iowait_ratio": 0.0,
    }


def test_a_reading_before_with_other_columns_does_not_count() -> None:
    assert cpu.shares([1, 2, 3, 4], THEN) == {}


def test_the_first_reading_after_a_boot_is_kept_for_the_next() -> None:
    answer = Answer({"/proc/stat": "cpu  2 0 0 2 0 0 0 0 0 0\ncpu0 2 0 0 2 0 0 0 0 0 0"})
    first = cpu.read(answer, None)
    assert first
    assert first.columns == {}
    answer = Answer({"/proc/stat": "cpu  3 0 0 5 0 0 0 0 0 0"})
    second = cpu.read(answer, Before(first.counters, 30.0))
    assert second
    assert second.columns["cpu_usage_ratio"] == 0.25


@pytest.mark.parametrize(
    "text", ["", "cpu", "cpu0 1 2 3 4 5", "cpu 1 2 3", "cpu 1 2 3 x", "cpu 1 2 3 -4", "cpu 1 2 3 99999999999999999999"]
)
def test_what_is_no_line_of_times(text: str) -> None:
    with pytest.raises(ParseError, match="^/proc/stat: '.*' is not the times of all cores$"):
        cpu.parse(text)
