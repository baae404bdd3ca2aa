from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, Table, delete, func, insert, select

from evc.store.database import open_engine
from evc.store.rollups import COARSE, FINE, ROLLUPS, Rollup, lock_mark, next_step, roll_up
from evc.store.tables import (
    ROLLED_UP,
    ROLLED_UP_TOTALS,
    history_marks,
    node_samples,
    node_samples_1d,
    node_samples_1h,
    node_samples_5m,
    node_samples_6h,
    node_samples_7d,
    rollup_notes,
)
from evc.store.writer import Batch, write
from tests.store.batches import TS, sample, store_with_nodes

HOUR = TS - TS % 3600
LONG_AFTER = HOUR + 10 * 86_400
Row = dict[str, Any]


def stored(engine: Engine, table: Table) -> list[Row]:
    with engine.connect() as connection:
        query = select(table).order_by(*table.primary_key.columns)
        return [dict(row) for row in connection.execute(query).mappings()]


def samples_of(engine: Engine, *rows: Row) -> None:
    write(engine, Batch({"node_samples": list(rows)}))


def notes(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(select(func.count()).select_from(rollup_notes)) or 0)


def _given(rows: list[Row], column: str) -> list[float]:
    return [row[column] for row in rows if row[column] is not None]


def _or_none(what: Callable[[Iterable[float]], float], values: list[float]) -> float | None:
    return what(values) if values else None


def mean(values: Iterable[float]) -> float:
    found = [float(value) for value in values]
    return sum(found) / len(found)


def plainly(rows: list[Row], bucket_s: int) -> list[Row]:
    """Return the rollup of ``rows``, computed here."""
    groups: dict[tuple[int, int], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["ts"] // bucket_s * bucket_s, row["node_id"]].append(row)
    found = []
    for (ts, node_id), group in sorted(groups.items()):
        made: Row = {"ts": ts, "node_id": node_id, "samples": len(group), "up_ratio": mean(_given(group, "up"))}
        for column in ROLLED_UP:
            values = _given(group, column)
            made |= {f"{column}_{n}": _or_none(f, values) for n, f in (("min", min), ("avg", mean), ("max", max))}
        made |= {column: _or_none(max, _given(group, column)) for column in ROLLED_UP_TOTALS}
        made["uptime_s_min"] = _or_none(min, _given(group, "uptime_s"))
        made["throttled_ratio"] = _or_none(mean, _given(group, "throttled"))
        found.append(made)
    return found


def of_shorter(rows: list[Row], bucket_s: int) -> list[Row]:
    """Return the rollup of shorter buckets, computed here."""
    groups: dict[tuple[int, int], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["ts"] // bucket_s * bucket_s, row["node_id"]].append(row)
    found = []
    for (ts, node_id), group in sorted(groups.items()):
        samples = [row["samples"] for row in group]
        answered = [row["samples"] * row["up_ratio"] for row in group]
        made: Row = {"ts": ts, "node_id": node_id, "samples": sum(samples), "up_ratio": sum(answered) / sum(samples)}
        for column in ROLLED_UP:
            weights = samples if column == "sweep_duration_s" else answered
            made |= {
                f"{column}_{n}": _or_none(f, _given(group, f"{column}_{n}")) for n, f in (("min", min), ("max", max))
            }
            made[f"{column}_avg"] = _weighted(group, f"{column}_avg", weights)
        made |= {column: _or_none(max, _given(group, column)) for column in ROLLED_UP_TOTALS}
        made["uptime_s_min"] = _or_none(min, _given(group, "uptime_s_min"))
        made["throttled_ratio"] = _weighted(group, "throttled_ratio", answered)
        found.append(made)
    return found


def _weighted(rows: list[Row], column: str, weights: list[float]) -> float | None:
    pairs = [(row[column], weight) for row, weight in zip(rows, weights, strict=True) if row[column] is not None]
    total = sum(weight for _, weight in pairs)
    return sum(value * weight for value, weight in pairs) / total if total else None


def assert_rolled_up(engine: Engine) -> None:
    for rollup in ROLLUPS:
        rows = stored(engine, rollup.source)
        compute = plainly if rollup.source is node_samples else of_shorter
        found, expected = stored(engine, rollup.table), compute(rows, rollup.bucket_s)
        assert len(found) == len(expected)
        for is_there, should_be in zip(found, expected, strict=True):
            assert is_there == pytest.approx(should_be, nan_ok=False), rollup.table.name


def test_values_are_those_of_a_plain_computation(engine: Engine) -> None:
    ids = store_with_nodes(engine, 3)
    rows = [sample(node_id, HOUR + 30 * tick) for node_id in ids for tick in range(250)]
    for row in rows[::7]:
        row |= {"up": 0, "cpu_usage_ratio": None, "temperature_celsius": None, "memory_available_bytes": None}
    for row in rows[::5]:
        row |= {"throttled": 1, "gpu_usage_ratio": 0.25, "uptime_s": 3.0}
    samples_of(engine, *rows)
    done = roll_up(engine, LONG_AFTER)
    assert_rolled_up(engine)
    assert done["node_samples_5m"].rows == len(stored(engine, node_samples_5m)) == 3 * 25
    assert done["node_samples_1h"].rows == len(stored(engine, node_samples_1h)) == 3 * 3
    assert done["node_samples_1h"].through_ts == HOUR + 3 * 3600
    assert notes(engine) == 0


_VALUES = st.none() | st.floats(-1e12, 1e12)
_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "ts": st.integers(HOUR, HOUR + 2 * 3600),
            "node_id": st.integers(1, 2),
            "up": st.integers(0, 1),
            "cpu_usage_ratio": _VALUES,
            "memory_available_bytes": st.none() | st.integers(0, 2**50),
            "memory_total_bytes": st.none() | st.integers(0, 2**62),
            "uptime_s": _VALUES,
            "throttled": st.none() | st.integers(0, 1),
        }
    ),
    max_size=12,
)


@given(sweeps=st.lists(st.tuples(_ROWS, st.integers(0, 4 * 3600)), max_size=4))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_in_whatever_order_samples_and_steps_come(engine: Engine, sweeps: list[tuple[list[Row], int]]) -> None:
    with engine.begin() as connection:
        for table in (node_samples, *(rollup.table for rollup in ROLLUPS), rollup_notes):
            connection.execute(delete(table))
    if not _has_nodes(engine):
        store_with_nodes(engine, 2)
    for rows, after_s in sweeps:
        samples_of(engine, *rows)
        roll_up(engine, HOUR + after_s)
    roll_up(engine, LONG_AFTER)
    assert_rolled_up(engine)
    assert notes(engine) == 0


def _has_nodes(engine: Engine) -> bool:
    from evc.store.tables import nodes

    with engine.connect() as connection:
        return connection.execute(select(nodes.c.id)).first() is not None


def test_a_bucket_is_made_when_it_is_over(engine: Engine) -> None:
    (node_id,) = store_with_nodes(engine, 1)
    samples_of(engine, *(sample(node_id, HOUR + 30 * tick) for tick in range(20)))
    roll_up(engine, HOUR + 300)
    assert stored(engine, node_samples_5m) == []  # its last samples may be on their way
    roll_up(engine, HOUR + 600)
    assert [row["ts"] for row in stored(engine, node_samples_5m)] == [HOUR]
    roll_up(engine, HOUR + 660)
    assert [row["ts"] for row in stored(engine, node_samples_5m)] == [HOUR, HOUR + 300]
    assert stored(engine, node_samples_1h) == []
    roll_up(engine, HOUR + 3660)
    assert [row["samples"] for row in stored(engine, node_samples_1h)] == [20]


def test_late_rows_count(engine: Engine) -> None:
    """As when the spool is drained after the hour was rolled up."""
    first, second = store_with_nodes(engine, 2)
    samples_of(engine, *(sample(first, HOUR + 30 * tick) for tick in range(0, 120, 2)))
    roll_up(engine, LONG_AFTER)
    samples_of(engine, *(sample(first, HOUR + 30 * tick) for tick in range(1, 120, 2)), sample(second, HOUR + 1800))
    done = roll_up(engine, LONG_AFTER)
    assert done["node_samples_5m"].rows == 12 + 1
    assert_rolled_up(engine)


def test_a_mean_of_days_is_that_of_their_samples(engine: Engine) -> None:
    """A node that was away for most of an hour does not count that hour as much as another."""
    (node_id,) = store_with_nodes(engine, 1)
    day = HOUR - HOUR % 86_400
    rows = [sample(node_id, day + 300 * tick) | {"cpu_usage_ratio": 0.5} for tick in range(288)]
    for row in rows[:11]:
        row |= {"up": 0, "cpu_usage_ratio": None}
    rows[11] |= {"cpu_usage_ratio": 1.0}
    samples_of(engine, *rows)
    roll_up(engine, LONG_AFTER)
    for table, buckets in ((node_samples_6h, 4), (node_samples_1d, 1), (node_samples_7d, 1)):
        assert len(stored(engine, table)) == buckets
    (made,) = stored(engine, node_samples_1d)
    assert made["cpu_usage_ratio_avg"] == pytest.approx((0.5 * 276 + 1.0) / 277)
    assert made["samples"] == 288
    assert made["up_ratio"] == pytest.approx(277 / 288)
    assert (made["cpu_usage_ratio_min"], made["cpu_usage_ratio_max"]) == (0.5, 1.0)


def test_long_buckets_are_made_anew_when_the_samples_are_gone(engine: Engine) -> None:
    """They come from shorter ones, which stay."""
    (node_id,) = store_with_nodes(engine, 1)
    samples_of(engine, *(sample(node_id, HOUR + 30 * tick) for tick in range(10)))
    roll_up(engine, LONG_AFTER)
    before = stored(engine, node_samples_6h)
    with engine.begin() as connection:
        lock_mark(connection, LONG_AFTER)
        connection.execute(delete(node_samples))
        connection.execute(delete(node_samples_6h))
        connection.execute(insert(rollup_notes), [{"rollup": "node_samples_6h", "ts": HOUR - HOUR % 21_600}])
    assert roll_up(engine, LONG_AFTER)["node_samples_6h"].too_late == 0
    assert stored(engine, node_samples_6h) == before


def test_twice_is_as_once(engine: Engine) -> None:
    ids = store_with_nodes(engine, 2)
    batch = Batch({"node_samples": [sample(node_id, HOUR + 30 * tick) for node_id in ids for tick in range(20)]})
    write(engine, batch)
    roll_up(engine, LONG_AFTER)
    before = stored(engine, node_samples_5m), stored(engine, node_samples_1h)
    write(engine, batch)  # adds nothing: notes nothing
    assert notes(engine) == 0
    assert all(rolled.rows == 0 for rolled in roll_up(engine, LONG_AFTER).values())
    with engine.begin() as connection:
        connection.execute(insert(rollup_notes), [{"rollup": "node_samples_5m", "ts": HOUR}])
    roll_up(engine, LONG_AFTER)
    assert (stored(engine, node_samples_5m), stored(engine, node_samples_1h)) == before


@pytest.mark.parametrize("steps", range(8))
def test_killed_between_two_steps_loses_nothing(engine: Engine, steps: int) -> None:
    ids = store_with_nodes(engine, 2)
    samples_of(engine, *(sample(node_id, HOUR + 30 * tick) for node_id in ids for tick in range(130)))
    left = iter([True] * steps)
    roll_up(engine, LONG_AFTER, lambda: next(left, False))
    roll_up(engine, LONG_AFTER)
    assert_rolled_up(engine)


@pytest.mark.parametrize("rollup", [FINE, COARSE], ids=["5m", "1h"])
def test_killed_within_a_step_changes_nothing(engine: Engine, rollup: Rollup, monkeypatch: pytest.MonkeyPatch) -> None:
    (node_id,) = store_with_nodes(engine, 1)
    samples_of(engine, *(sample(node_id, HOUR + 30 * tick) for tick in range(130)))
    if rollup is COARSE:
        while next_step(engine, FINE, LONG_AFTER):
            pass
    before = notes(engine)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("evc.store.rollups._delete_notes", killed)
        next_step(engine, rollup, LONG_AFTER)
    assert stored(engine, rollup.table) == []
    assert notes(engine) == before
    roll_up(engine, LONG_AFTER)
    assert_rolled_up(engine)


def test_samples_that_come_while_a_step_goes_on_are_not_lost(
    postgres_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A note that the step has not read is not its to delete, and no writer waits for it."""
    engine = postgres_engine
    other = open_engine(engine.url.render_as_string(hide_password=False))
    (node_id,) = store_with_nodes(engine, 1)
    samples_of(engine, sample(node_id, HOUR))
    from evc.store import rollups

    make = rollups._make

    def make_meanwhile(*args: Any) -> int:
        rows = make(*args)
        samples_of(other, sample(node_id, HOUR + 30))
        return rows

    with monkeypatch.context() as patch:
        patch.setattr("evc.store.rollups._make", make_meanwhile)
        next_step(engine, FINE, LONG_AFTER)
    assert [row["samples"] for row in stored(engine, node_samples_5m)] == [1]
    roll_up(engine, LONG_AFTER)
    assert_rolled_up(engine)
    other.dispose()


def _roll_up_until(url: str, stop: threading.Event) -> None:
    engine = open_engine(url)
    while not stop.is_set():
        roll_up(engine, LONG_AFTER)
    engine.dispose()


def test_two_at_once_while_sweeps_come_in_any_order(engine: Engine) -> None:
    url = engine.url.render_as_string(hide_password=False)
    ids = store_with_nodes(engine, 5)
    stop = threading.Event()
    others = [threading.Thread(target=_roll_up_until, args=(url, stop)) for _ in range(2)]
    for other in others:
        other.start()
    order = random.Random(2).sample(range(240), 80)
    for tick in order:
        samples_of(engine, *(sample(node_id, HOUR + 30 * tick) for node_id in ids))
    stop.set()
    for other in others:
        other.join()
    roll_up(engine, LONG_AFTER)
    assert_rolled_up(engine)
    assert notes(engine) == 0


def test_a_late_row_whose_neighbours_are_gone_leaves_the_bucket_as_it_is(engine: Engine) -> None:
    (node_id,) = store_with_nodes(engine, 1)
    samples_of(engine, *(sample(node_id, HOUR + 30 * tick) for tick in range(10)))
    roll_up(engine, LONG_AFTER)
    before = stored(engine, node_samples_5m)
    with engine.begin() as connection:
        lock_mark(connection, HOUR + 3600)
        connection.execute(delete(node_samples))
    samples_of(engine, sample(node_id, HOUR + 15))
    done = roll_up(engine, LONG_AFTER)
    assert stored(engine, node_samples_5m) == before
    assert done["node_samples_5m"].too_late == 1
    assert notes(engine) == 0


def test_the_mark_only_goes_forward(engine: Engine) -> None:
    with engine.begin() as connection:
        assert lock_mark(connection, HOUR) == HOUR
        assert lock_mark(connection, HOUR - 1) == HOUR
        assert lock_mark(connection) == HOUR
    assert stored(engine, history_marks) == [{"name": "node_samples", "ts": HOUR}]


@pytest.mark.parametrize("oldest", [HOUR, HOUR + 1800])
def test_a_mark_of_a_clock_that_was_ahead_is_set_back(
    engine: Engine, oldest: int, caplog: pytest.LogCaptureFixture
) -> None:
    (node_id,) = store_with_nodes(engine, 1)
    samples_of(engine, sample(node_id, oldest), sample(node_id, HOUR + 7200))
    with engine.begin() as connection:
        lock_mark(connection, LONG_AFTER + 400 * 86_400)
    roll_up(engine, LONG_AFTER)
    assert_rolled_up(engine)
    assert stored(engine, history_marks) == [{"name": "node_samples", "ts": HOUR}]
    assert "a clock was ahead" in caplog.text


def test_without_samples_a_mark_is_set_back_to_this_hour(engine: Engine) -> None:
    (node_id,) = store_with_nodes(engine, 1)
    with engine.begin() as connection:
        lock_mark(connection, LONG_AFTER)
    roll_up(engine, HOUR + 60)
    samples_of(engine, sample(node_id, HOUR + 90))
    roll_up(engine, LONG_AFTER)
    assert_rolled_up(engine)
