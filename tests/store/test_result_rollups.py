"""The rollup of result lines, on both databases: each line counted once, whatever comes late, again or not at all."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

from sqlalchemy import Engine, Table, func, select

from evc.fleet.results import Result
from evc.store.inference import Chunk, Run, change_run, open_run, reset_run, store_chunk
from evc.store.result_rollups import HOUR_S, next_hour, note_results, roll_up_results
from evc.store.retention import remove_old
from evc.store.rollups import lock_mark
from evc.store.tables import (
    LATENCIES_MS,
    inference_results,
    inference_results_1h,
    inference_runs_1h,
    inference_runs_5m,
    latency_columns,
    rollup_notes,
)
from tests.store.batches import TS, store_with_nodes

HOUR = TS - TS % HOUR_S
GIVEN = {
    "run_id": "r", "node_id": 1, "model": "m", "digest": "d", "mode": "continuous", "status": "running",
    "started_ts": HOUR,
}  # fmt: skip


def line(ts: int, kind: str = "k", value: float | None = None, latency_ms: float | None = None) -> Result:
    return Result(ts, kind, None, None, value, latency_ms, None)


def opened(engine: Engine) -> Run:
    store_with_nodes(engine, 1)
    with engine.begin() as connection:
        return open_run(connection, GIVEN)


def append(engine: Engine, run: Run, *results: Result) -> Run:
    with engine.begin() as connection:
        return store_chunk(connection, Chunk(run, results, "", {}))


def made(engine: Engine, table: Table = inference_results_1h) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(select(table).order_by(*table.primary_key.columns)).mappings())


def notes(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(select(func.count()).select_from(rollup_notes)) or 0)


def test_an_hour_has_a_row_for_each_kind(engine: Engine) -> None:
    run = append(engine, opened(engine), line(HOUR, "k", 1.0), line(HOUR + 3599, "k", -3.0), line(HOUR + 1, "k"))
    append(engine, run, line(HOUR + 2, "frame", None, 12.5), line(HOUR + HOUR_S, "k", 7.0))
    rolled = roll_up_results(engine, HOUR + 2 * HOUR_S)
    assert (rolled.rows, rolled.through_ts, rolled.too_late) == (3 + 2, HOUR + HOUR_S, 0)
    frame, of_kind = made(engine)
    of_run = {"ts": HOUR, "run_id": run.id, "node_id": 1, "model": "m"}
    assert dict(of_kind) == {
        **of_run, "kind": "k", "lines": 3, "last_seq": 2, "value_count": 2, "value_sum": -2.0, "value_min": -3.0,
        "value_max": 1.0,
    }  # fmt: skip
    assert dict(frame) == {
        **of_run, "kind": "frame", "lines": 1, "last_seq": 3, "value_count": 0, "value_sum": None, "value_min": None,
        "value_max": None,
    }  # fmt: skip


def test_an_hour_has_a_row_for_each_run(engine: Engine) -> None:
    run = opened(engine)
    told = (("frame", 12.5), ("frame", None), ("person", 12.5), ("error", None), ("malformed", None))
    append(engine, run, *(line(HOUR, kind, latency_ms=latency_ms) for kind, latency_ms in told))
    roll_up_results(engine, HOUR + 2 * HOUR_S)
    (row,) = made(engine, inference_runs_1h)
    assert dict(row) == {
        **dict.fromkeys(latency_columns()), "ts": HOUR, "run_id": run.id, "node_id": 1, "model": "m", "digest": "d",
        "lines": 5, "errors": 2, "frames": 2, "latency_to_12_5_ms": 1,
    }  # fmt: skip


def test_five_minutes_have_a_row_for_each_run(engine: Engine) -> None:
    run = opened(engine)
    append(engine, run, *(line(HOUR + after_s, "frame", None, 12.5) for after_s in (0, 299, 300, 3599, 3600)))
    roll_up_results(engine, HOUR + 2 * HOUR_S)
    rows = made(engine, inference_runs_5m)
    assert [(row["ts"] - HOUR, row["frames"], row["latency_to_12_5_ms"]) for row in rows] == [
        (0, 2, 2), (300, 1, 1), (3300, 1, 1),
    ]  # fmt: skip
    with engine.begin() as connection:
        note_results(connection, [HOUR])
    roll_up_results(engine, HOUR + 2 * HOUR_S)
    assert made(engine, inference_runs_5m) == rows
    assert remove_old(engine, "rollup_5m", HOUR + 300)["inference_runs_5m"].rows == 1


def test_of_a_run_that_names_no_frame_lines_with_a_latency_count(engine: Engine) -> None:
    append(engine, opened(engine), line(HOUR, "class", latency_ms=3.0), line(HOUR, "class"))
    with engine.begin() as connection:
        other = open_run(connection, {**GIVEN, "run_id": "other"})
    append(engine, other, line(HOUR, "frame", latency_ms=3.0))
    roll_up_results(engine, HOUR + 2 * HOUR_S)
    assert [(row["lines"], row["frames"], row["latency_to_3_15_ms"]) for row in made(engine, inference_runs_1h)] == [
        (2, 1, 1), (1, 1, 1),
    ]  # fmt: skip


def test_an_hour_is_made_a_minute_after_its_end_and_once(engine: Engine) -> None:
    append(engine, opened(engine), line(HOUR))
    assert next_hour(engine, HOUR + HOUR_S + 59) is None
    assert next_hour(engine, HOUR + HOUR_S + 60) is not None
    assert next_hour(engine, HOUR + HOUR_S + 60) is None
    assert notes(engine) == 0


def test_lines_that_come_late_are_counted_too(engine: Engine) -> None:
    """As of a node that was away."""
    run = append(engine, opened(engine), line(HOUR))
    roll_up_results(engine, HOUR + 2 * HOUR_S)
    append(engine, run, line(HOUR + 1), line(HOUR + 2, "other"))
    roll_up_results(engine, HOUR + 2 * HOUR_S)
    assert [(row["kind"], row["lines"]) for row in made(engine)] == [("k", 2), ("other", 1)]


def test_another_go_of_a_run_replaces_what_was_counted(engine: Engine) -> None:
    run = append(engine, opened(engine), line(HOUR, "gone"), line(HOUR + HOUR_S, "gone"))
    roll_up_results(engine, HOUR + 3 * HOUR_S)
    with engine.begin() as connection:
        run = reset_run(connection, change_run(connection, run, status="failed", finished_ts=TS), GIVEN)
    append(engine, run, line(HOUR, "new"))
    roll_up_results(engine, HOUR + 3 * HOUR_S)
    assert [(row["ts"], row["kind"], row["lines"]) for row in made(engine)] == [(HOUR, "new", 1)]


def test_each_latency_is_in_the_class_that_it_does_not_exceed(engine: Engine) -> None:
    draw = random.Random(1)
    told = [0.0, 1.0, 1.25, 1.26, 9999.9, 10_000.0, 10_000.1, 1e300, *(draw.expovariate(0.02) for _ in range(500))]
    append(engine, opened(engine), *(line(HOUR, latency_ms=value) for value in told))
    roll_up_results(engine, HOUR + 2 * HOUR_S)
    (row,) = made(engine, inference_runs_1h)
    bounds = [0.0, *LATENCIES_MS, float("inf")]
    for (low, high), name in zip(pairwise(bounds), latency_columns(), strict=True):
        count = sum((low < value or low == 0) and value <= high for value in told)
        assert (row[name] or 0) == count, name
    assert all(high / low <= 1.29 for low, high in pairwise(LATENCIES_MS))


def test_values_beyond_all_measure_spoil_no_sum(engine: Engine) -> None:
    huge = 1.7e308
    append(engine, opened(engine), *(line(HOUR, value=value) for value in (huge, huge, -huge, 5.0)))
    assert roll_up_results(engine, HOUR + 2 * HOUR_S).rows == 3
    (row,) = made(engine)
    assert (row["value_count"], row["value_sum"], row["value_min"], row["value_max"]) == (1, 5.0, -huge, huge)


def test_lines_stay_until_they_are_rolled_up(engine: Engine) -> None:
    run = append(engine, opened(engine), *(line(HOUR + n * HOUR_S) for n in range(4)))
    roll_up_results(engine, HOUR + 2 * HOUR_S)  # as if it were behind
    remove_old(engine, "results", HOUR + 4 * HOUR_S)
    with engine.connect() as connection:
        assert connection.scalar(select(func.min(inference_results.c.ts))) == HOUR + HOUR_S
    roll_up_results(engine, HOUR + 5 * HOUR_S)
    remove_old(engine, "results", HOUR + 4 * HOUR_S)
    append(engine, run, line(HOUR + 1))  # from before what is kept: the hour stays as it is
    assert roll_up_results(engine, HOUR + 5 * HOUR_S).too_late == 1
    assert [row["lines"] for row in made(engine)] == [1, 1, 1, 1]


def test_a_mark_of_a_clock_that_was_ahead_is_set_back(engine: Engine) -> None:
    append(engine, opened(engine), line(HOUR))
    with engine.begin() as connection:
        lock_mark(connection, HOUR + 400 * 86_400, name=inference_results.name)
    assert roll_up_results(engine, HOUR + 2 * HOUR_S).too_late == 0
    assert [row["lines"] for row in made(engine)] == [1]


def test_old_hours_go_with_the_other_rollup_of_an_hour(engine: Engine) -> None:
    append(engine, opened(engine), line(HOUR), line(HOUR + HOUR_S))
    roll_up_results(engine, HOUR + 3 * HOUR_S)
    removed = remove_old(engine, "rollup_1h", HOUR + HOUR_S)
    for table in (inference_results_1h, inference_runs_1h):
        assert removed[table.name].rows == 1
        assert [row["ts"] for row in made(engine, table)] == [HOUR + HOUR_S]
