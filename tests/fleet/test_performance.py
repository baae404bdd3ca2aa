"""Frames, rates and percentiles, compared with what exact arithmetic says."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evc.fleet.performance import ACCURACY, Latencies, Performance
from evc.fleet.results import read_line

BEGIN_NS = 1_700_000_000_000_000_000
MS = 1_000_000


def told(*lines: dict[str, Any], step_ms: float = 100) -> Performance:
    performance = Performance()
    for index, line in enumerate(lines):
        ts_ns = BEGIN_NS + int(index * step_ms * MS)
        performance.add(read_line(json.dumps(line).encode(), ts_ns), ts_ns)
    return performance


def nearest_rank(latencies: list[float], percent: float) -> float:
    return sorted(latencies)[max(math.ceil(len(latencies) * percent / 100), 1) - 1]


def test_nothing_was_printed() -> None:
    assert set(Performance().columns().values()) == {None, 0}
    assert Performance().frames is None
    assert Performance().percentile(50) is None


def test_frame_lines_are_frames() -> None:
    lines = [{"kind": "person", "frame": 0}, {"kind": "person", "frame": 0}, {"kind": "frame", "latency_ms": 10}]
    found = told(*lines, *lines, step_ms=50)
    assert (found.frames, found.results) == (2, 4)
    assert found.frames_per_s == pytest.approx(1 / 0.150)
    assert found.percentile(50) == pytest.approx(10, rel=ACCURACY)


def test_without_them_a_new_index_is_a_frame() -> None:
    found = told(*({"kind": "person", "frame": index // 3, "latency_ms": 10 + index % 3} for index in range(9)))
    assert found.frames == 3
    assert found.frames_per_s == pytest.approx(2 / 0.6)
    assert found.percentile(99) == pytest.approx(10, rel=ACCURACY)  # once a frame


def test_without_an_index_a_latency_is_a_frame() -> None:
    found = told(*({"kind": "class", "latency_ms": 10} for _ in range(4)), {"kind": "class"})
    assert (found.frames, found.results) == (4, 5)


def test_a_summary_overrules() -> None:
    found = told({"kind": "frame"}, {"kind": "frame"}, {"kind": "summary", "frames": 795, "duration_s": 100.0})
    assert (found.frames, found.frames_per_s) == (795, 7.95)
    assert told({"kind": "summary", "frames": 2**62, "duration_s": 5e-324}).frames_per_s is None


def test_errors_and_malformed_lines_are_counted_apart() -> None:
    found = told({"kind": "error", "message": "no picture"}, {"kind": 5}, {"kind": "person"})
    assert (found.errors, found.malformed, found.results, found.frames) == (1, 1, 1, None)


def test_a_clock_set_back_takes_no_time() -> None:
    performance = Performance()
    for ts_ns in (BEGIN_NS, BEGIN_NS + 1000 * MS, BEGIN_NS - 3_600_000 * MS, BEGIN_NS - 3_599_000 * MS):
        performance.add(read_line(b'{"kind": "frame"}', ts_ns), ts_ns)
    assert performance.frames_per_s == pytest.approx(3 / 2)


@given(st.lists(st.floats(0.0011, 9e8), min_size=1, max_size=300), st.sampled_from([1, 50, 95, 99, 100]))
def test_a_percentile_is_within_a_percent_of_the_exact_one(latencies: list[float], percent: float) -> None:
    histogram = Latencies()
    for latency_ms in latencies:
        histogram.add(latency_ms)
    assert histogram.percentile(percent) == pytest.approx(nearest_rank(latencies, percent), rel=ACCURACY * 1.0001)


def test_memory_is_bounded() -> None:
    histogram = Latencies()
    for exponent in range(-400_000, 400_000, 7):
        histogram.add(10 ** (exponent / 2000) if exponent > -600_000 else 0.0)
    histogram.add(0.0)
    histogram.add(1.7e308)
    assert len(histogram.counts) < 1_400


LINES = st.lists(
    st.fixed_dictionaries(
        {"kind": st.sampled_from(["person", "frame", "summary", "error", ""])},
        optional={
            "frame": st.integers(0, 3),
            "latency_ms": st.floats(0, 1e6),
            "frames": st.integers(0, 10),
            "duration_s": st.floats(0.1, 10),
        },
    ),
    max_size=30,
)


@given(LINES, st.integers(0, 30))
def test_counting_goes_on_in_another_process(lines: list[dict[str, Any]], cut: int) -> None:
    whole, parted = Performance(), Performance()
    for index, line in enumerate(lines):
        ts_ns = BEGIN_NS + index * 40 * MS
        result = read_line(json.dumps(line).encode(), ts_ns)
        whole.add(result, ts_ns)
        if index == cut:
            parted = Performance.load(json.loads(json.dumps(parted.dump())))
        parted.add(result, ts_ns)
    assert parted == whole
    assert parted.columns() == whole.columns()
