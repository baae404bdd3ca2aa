"""Reading logs: an engine's rules in small, so that every order of lines, clocks, rotations and readings can be tried.

The rules (json-file of Docker 20.10): lines in the order in which they came, ``since`` leaves out by time alone, a
rotation takes the oldest. tests/inference holds the same against real engines.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evc.engine.client import Frame
from evc.engine.logs import ContainerLog, LogLine, LogParser, Place, nanoseconds
from evc.errors import EngineError
from evc.fleet.results import MAX_LINE_BYTES

NOW_S = 1_700_000_000


def stamp(ts_ns: int) -> bytes:
    second, fraction = divmod(ts_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z".encode()


class SmallEngine:
    """Keeps the log of one container."""

    name = "edge-1"

    def __init__(self) -> None:
        self.frames: list[tuple[int, bool, bytes]] = []
        self.passes = self.lines_read = 0

    def say(self, ts_ns: int, text: bytes, *, is_stderr: bool = False) -> None:
        for begin in range(0, max(len(text), 1), 16_384):
            self.frames.append((ts_ns, is_stderr, text[begin : begin + 16_384]))

    async def logs(
        self,
        container: str,
        *,
        follow: bool = False,
        since: str | None = None,
        timestamps: bool = False,
        stderr: bool = True,
        tail: int | None = None,
    ) -> AsyncGenerator[list[Frame], None]:
        assert timestamps
        self.passes += 1
        second, _, fraction = (since or "0.0").partition(".")
        since_ns = int(second) * 1_000_000_000 + int(fraction)
        newest = self.frames if tail is None else self.frames[-tail:]
        self.lines_read += len(newest)
        asked = [frame for frame in newest if frame[0] >= since_ns and (stderr or not frame[1])]
        found = [(is_stderr, stamp(ts) + b" " + text) for ts, is_stderr, text in asked]
        for begin in range(0, len(found), 3):
            yield found[begin : begin + 3]


async def read(log: ContainerLog, *, ended: bool, most: int = 10**9) -> list[LogLine]:
    got: list[LogLine] = []
    async with aclosing(log.read(ended=ended)) as chunks:
        async for lines in chunks:
            got += lines
            if len(got) >= most:
                break
    return got


def read_now(engine: Any, place: Place | None, *, ended: bool = False, **more: Any) -> tuple[list[str], Place | None]:
    log = ContainerLog(engine, "c", place, **more)
    got = asyncio.run(read(log, ended=ended))
    return [line.text.decode() for line in got if not line.is_stderr], log.place


def test_lines_parts_of_lines_and_both_streams() -> None:
    engine = SmallEngine()
    engine.say(5, b"out\n")
    engine.say(6, b"err\n", is_stderr=True)
    engine.say(7, b"x" * 200_000 + b"\n")
    engine.say(8, b"\n")
    engine.say(9, b"half")
    log = ContainerLog(engine, "c", None)  # type: ignore[arg-type]
    got = asyncio.run(read(log, ended=True))
    assert [(line.is_stderr, line.ts_ns, line.size, len(line.text)) for line in got] == [
        (False, 5, 3, 3),
        (True, 6, 3, 3),
        (False, 7, 200_000, MAX_LINE_BYTES),
        (False, 8, 0, 0),
        (False, 9, 4, 4),
    ]


def test_half_a_line_waits_for_its_end_where_the_container_runs_on() -> None:
    engine = SmallEngine()
    engine.say(5, b"a\n")
    engine.say(6, b"half")
    got, place = read_now(engine, None)
    assert got == ["a"]
    engine.say(6, b" and half\n")
    assert read_now(engine, place)[0] == ["half and half"]


def test_a_program_that_died_in_mid_line_does_not_swallow_the_next_ones_first() -> None:
    engine = SmallEngine()
    engine.say(5, b"half")
    engine.say(6, b"whole\n")
    assert read_now(engine, None)[0] == ["half", "whole"]


def test_what_is_no_log_is_an_error() -> None:
    async def logs(container: str, **_: Any) -> AsyncGenerator[list[Frame], None]:
        yield [(False, b"no time\n")]

    engine = SimpleNamespace(name="edge-1", logs=logs)
    with pytest.raises(EngineError, match="a time was expected"):
        read_now(engine, None)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:01.000000002Z", 1_000_000_002),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("1970-01-01T01:00:01.25+01:00", 1_250_000_000),
    ],
)
def test_times(text: str, ns: int) -> None:
    assert nanoseconds(text.encode()) == ns


@pytest.mark.parametrize(
    "text", ["", "now", "1970-01-01", "1970-13-01T00:00:01Z", "0000-01-01T00:00:01.000000000Z", "é"]
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="time|month|year"):
        nanoseconds(text.encode())


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=60)), max_size=10))
def test_a_hostile_engine_gets_an_error_at_most(frames: list[Frame]) -> None:
    parser = LogParser()
    try:
        parser.feed(frames)
    except ValueError:
        return
    parser.close()


def test_lines_of_the_very_same_time() -> None:
    engine = SmallEngine()
    for number in range(5):
        engine.say(7, b"%d\n" % number)
    got, place = read_now(engine, None)
    for number in range(5, 9):
        engine.say(7, b"%d\n" % number)
    assert (got, read_now(engine, place)[0]) == (list("01234"), list("5678"))


def test_an_ordinary_round_reads_the_log_once_and_only_its_end() -> None:
    engine = SmallEngine()
    for number in range(1000):
        engine.say((NOW_S + number) * 1_000_000_000, b"%d\n" % number)
    _, place = read_now(engine, None, started_at="2023-11-14T00:00:00Z", clock_s=0.0)
    engine.say((NOW_S + 1000) * 1_000_000_000, b"new\n")
    engine.passes = 0
    assert read_now(engine, place, started_at="2023-11-14T00:00:00Z", clock_s=-1.0)[0] == ["new"]
    assert engine.passes == 1


@pytest.mark.parametrize("whole", [True, False, None])
@pytest.mark.parametrize("read_before", [0, 3])
def test_the_whole_log_or_its_end_give_the_same(whole: bool | None, read_before: int) -> None:
    engine = SmallEngine()
    for number in range(read_before):
        engine.say(number, b"%d\n" % number)
    _, place = read_now(engine, None)
    for number in range(read_before, 6):
        engine.say(number, b"%d\n" % number)

    async def rest() -> list[str]:
        log = ContainerLog(engine, "c", place)  # type: ignore[arg-type]
        return [line.text.decode() async for lines in log.read(ended=True, whole=whole) for line in lines]

    assert asyncio.run(rest()) == [str(number) for number in range(read_before, 6)]


def test_lines_that_were_rotated_away_are_told() -> None:
    engine = SmallEngine()
    engine.say(5_000_000_000, b"a\n")
    _, place = read_now(engine, None)
    engine.say(60_000_000_000, b"b\n")
    del engine.frames[0]
    log = ContainerLog(engine, "c", place)  # type: ignore[arg-type]
    assert [line.text for line in asyncio.run(read(log, ended=False))] == [b"b"]
    assert log.lost


def test_following_goes_on_from_a_place() -> None:
    engine = SmallEngine()
    for number in range(10):
        engine.say(number, b"%d\n" % number)

    async def follow(place: Place | None) -> list[str]:
        log = ContainerLog(engine, "c", place)  # type: ignore[arg-type]
        return [line.text.decode() async for lines in log.follow() for line in lines]

    assert asyncio.run(follow(None)) == list("0123456789")
    assert asyncio.run(follow(Place(4, 1))) == list("56789")
    del engine.frames[:6]
    assert asyncio.run(follow(Place(4, 1))) == list("6789")


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("say"), st.integers(1, 6), st.sampled_from([0, 1000, 300_000_000, 2_000_000_000, 70_000_000_000])
        ),
        st.tuples(st.just("clock"), st.integers(-100_000, 100_000), st.booleans()),
        st.tuples(st.just("read"), st.sampled_from([1, 4, 10**9]), st.just(None)),
    ),
    max_size=25,
)


@pytest.mark.parametrize("tails", [None, (1, 3), (2, 7)])
@given(steps=STEPS)
def test_each_line_once_whatever_the_nodes_clock_does(
    tails: tuple[int, ...] | None, steps: list[tuple[str, Any, Any]]
) -> None:
    """A step back is seen at the next reading, or by a start of the container; set right unseen it is not noticed."""
    engine, clock_ns, ahead_s = SmallEngine(), NOW_S * 1_000_000_000, 0.0
    started_at, place, is_behind = stamp(clock_ns).decode(), None, False
    said, got = list[str](), list[str]()

    def round_of(most: int) -> None:
        nonlocal place
        ours_s = clock_ns / 1e9 - ahead_s
        log = ContainerLog(
            engine,  # type: ignore[arg-type]
            "c",
            place,
            started_at=started_at,
            clock_s=ahead_s,
            now=lambda: ours_s,
            stderr=tails is None,
        )
        with patch("evc.engine.logs._TAILS", tails or ()):
            got.extend(line.text.decode() for line in asyncio.run(read(log, ended=False, most=most)))
        place = log.place

    for kind, number, more in steps:
        if kind == "say":
            for _ in range(number):
                clock_ns += more
                engine.say(clock_ns, b"%d\n" % len(said))
                said.append(str(len(said)))
        elif kind == "clock":
            if is_behind and number > 0:
                round_of(10**9)
                is_behind = False
            is_behind = is_behind or (number < 0 and not more)
            clock_ns += number * 1_000_000_000 + 1  # no two lines of different times share a nanosecond
            ahead_s += number
            if more:
                started_at = stamp(clock_ns).decode()
        else:
            round_of(number)
            is_behind = is_behind and number < 10**9
    for _ in range(len(said) + 1):
        round_of(10**9)
    assert got == said


def test_stderr_is_left_out_where_nobody_wants_it() -> None:
    engine: Any = SmallEngine()
    engine.say(NOW_S * 10**9, b"a\n")
    for number in range(9):
        engine.say(NOW_S * 10**9 + number, b"noise\n", is_stderr=True)
    engine.say(NOW_S * 10**9 + 9, b"b\n")
    got = asyncio.run(read(ContainerLog(engine, "c", None, stderr=False), ended=False))
    assert [(line.is_stderr, line.text) for line in got] == [(False, b"a"), (False, b"b")]


def test_after_a_restart_the_place_is_looked_for_near_the_end_first() -> None:
    engine: Any = SmallEngine()
    for number in range(100_000):
        engine.say(NOW_S * 10**9 + number, b"x\n")
    place = Place(NOW_S * 10**9 + 99_990, 1, "1970-01-01T00:00:00Z", 0.0)
    log = ContainerLog(engine, "c", place, started_at="1970-01-01T00:00:09Z", clock_s=0.0, stderr=False)
    assert len(asyncio.run(read(log, ended=False))) == 9
    assert engine.lines_read == 2_000


@pytest.mark.parametrize("new", range(6))
@pytest.mark.parametrize("tails", [(1,), (3,), (5,), (6,), (7,), (9,)])
def test_a_window_that_begins_among_lines_of_one_time_is_not_believed(new: int, tails: tuple[int, ...]) -> None:
    engine: Any = SmallEngine()
    engine.say(NOW_S * 10**9 - 1, b"first\n")
    for number in range(5 + new):
        engine.say(NOW_S * 10**9, b"%d\n" % number)
    place = Place(NOW_S * 10**9, 5, "1970-01-01T00:00:00Z", 0.0)
    log = ContainerLog(engine, "c", place, started_at="1970-01-01T00:00:09Z", clock_s=0.0, stderr=False)
    with patch("evc.engine.logs._TAILS", tails):
        got = [line.text.decode() for line in asyncio.run(read(log, ended=False))]
    assert got == [str(number) for number in range(5, 5 + new)]
