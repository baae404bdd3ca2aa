"""Result lines in the database, on both: each once, whatever becomes of who writes them."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import Executor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, insert, select

from evc.errors import DatabaseError, Stopped
from evc.fleet.results import Result, read_line
from evc.store.database import open_engine
from evc.store.inference import (
    Chunk,
    Conditions,
    Run,
    change_run,
    find_run,
    node_conditions,
    open_run,
    overrule_run,
    reopen_run,
    reset_run,
    result_origin,
    store_chunk,
    unfinished_runs,
)
from evc.store.tables import builds, inference_results, inference_runs
from evc.store.writer import Batch, write
from tests.store.batches import TS, sample, store_with_nodes

DIGEST = "sha256:" + "a" * 64
GIVEN = {
    "run_id": "manual__1", "node_id": 1, "model": "reid", "digest": DIGEST, "mode": "once", "input": "/data/a.avi",
    "container_id": None, "status": "starting", "started_ts": TS,
}  # fmt: skip


def opened(engine: Engine, **given: Any) -> Run:
    with engine.begin() as connection:
        return open_run(connection, {**GIVEN, **given})


def lines(begin: int, count: int) -> list[Result]:
    said = (
        {"kind": "person", "label": str(number), "score": 0.5, "box": [number]}
        for number in range(begin, begin + count)
    )
    return [read_line(json.dumps(line).encode(), TS * 1_000_000_000) for line in said]


def append(engine: Engine, run: Run, results: list[Result]) -> Run:
    with engine.begin() as connection:
        return store_chunk(connection, Chunk(run, results, f"after {run.lines + len(results)}", {"frames": 7}))


def stored(engine: Engine) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(select(inference_results).order_by(inference_results.c.seq)).mappings())


def test_lines_follow_on_each_other(engine: Engine) -> None:
    store_with_nodes(engine, 1)
    run = append(engine, append(engine, opened(engine), lines(0, 3)), lines(3, 2))
    rows = stored(engine)
    assert [(row["run_id"], row["seq"], row["label"]) for row in rows] == [(run.id, n, str(n)) for n in range(5)]
    assert dict(rows[4]) == {
        "run_id": run.id, "seq": 4, "ts": TS, "node_id": 1, "model": "reid", "digest": DIGEST, "kind": "person",
        "label": "4", "score": 0.5, "value": None, "latency_ms": None, "payload": {"box": [4]},
    }  # fmt: skip
    with engine.connect() as connection:
        assert find_run(connection, "manual__1", 1) == run
        assert connection.execute(select(inference_runs.c.frames)).scalar() == 7
    assert (run.lines, run.cursor) == (5, "after 5")


def test_a_second_try_finds_the_run_as_it_is(engine: Engine) -> None:
    store_with_nodes(engine, 1)
    run = append(engine, opened(engine), lines(0, 3))
    assert opened(engine, status="starting", started_ts=TS + 100) == run


def test_who_was_overtaken_stores_nothing(engine: Engine) -> None:
    store_with_nodes(engine, 1)
    run = opened(engine)
    append(engine, run, lines(0, 3))
    with pytest.raises(Stopped):
        append(engine, run, lines(0, 5))
    assert len(stored(engine)) == 3


def test_another_go_that_could_not_begin_is_told_and_takes_no_line_away(engine: Engine) -> None:
    store_with_nodes(engine, 1)
    run = append(engine, opened(engine, container_id="c1"), lines(0, 3))
    with engine.begin() as connection:
        over = change_run(connection, run, status="succeeded", finished_ts=TS, exit_code=0, oom_killed=False)
        told = overrule_run(connection, over, "n1: does not answer", TS + 9)
        assert (told.status, told.message, told.finished_ts) == ("failed", "n1: does not answer", TS + 9)
        assert (told.lines, told.cursor, told.exit_code) == (run.lines, run.cursor, None)
        assert overrule_run(connection, over, "n1: late", TS + 10) == told  # someone else was quicker
    assert len(stored(engine)) == 3
    with engine.begin() as connection:
        again = reopen_run(connection, told)
    assert (again.status, again.message, again.finished_ts, again.lines) == ("running", None, None, 3)
    append(engine, again, lines(3, 1))
    assert [row["seq"] for row in stored(engine)] == [0, 1, 2, 3]


def test_another_go_replaces_the_results(engine: Engine) -> None:
    store_with_nodes(engine, 1)
    run = append(engine, opened(engine), lines(0, 3))
    with engine.begin() as connection:
        run = change_run(connection, run, status="failed", finished_ts=TS, exit_code=3)
        assert (run.status, run.exit_code) == ("failed", 3)
        assert change_run(connection, run, status="running") == run  # finished stays finished
        again = reset_run(connection, run, GIVEN)
    assert (again.id, again.lines, again.exit_code, again.finished_ts) == (run.id, 0, None, None)
    with pytest.raises(Stopped):
        append(engine, run, lines(3, 1))
    append(engine, again, lines(0, 1))
    assert [row["seq"] for row in stored(engine)] == [0]


def test_hostile_lines_are_stored(engine: Engine) -> None:
    store_with_nodes(engine, 1)
    said = [
        rb'{"kind": "person", "label": "\u0000\ud800", "a": "\u0000", "\ud800": 1}',
        b"\x00\x01\xff" * 5000,
        b'{"kind": "person", "value": 1.7976931348623157e308, "n": ' + b"9" * 4000 + b"}",
        b'{"kind": "person", "a": ' + b"[" * 14 + b"]" * 14 + b"}",
        "고양이 🐈".encode() * 5000,
        b"",
    ]
    append(engine, opened(engine), [read_line(line, TS * 10**9) for line in said])
    rows = stored(engine)
    assert [row["kind"] for row in rows] == ["person", "malformed", "person", "person", "malformed", "malformed"]
    assert rows[0]["label"] == "\ufffd\ufffd"
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:  # what a dashboard does
            sql = "SELECT payload->>'text', payload->>'a' FROM inference_results"
            assert len(connection.exec_driver_sql(sql).all()) == 6


def _killed_in_mid_transaction(url: str, run: Run, count: int) -> None:
    engine = open_engine(url)

    @event.listens_for(engine, "commit")
    def killed(connection: Connection) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    append(engine, run, lines(run.lines, count))


def test_a_kill_in_mid_transaction_leaves_all_or_nothing(engine: Engine) -> None:
    store_with_nodes(engine, 1)
    run = append(engine, opened(engine), lines(0, 3))
    url = engine.url.render_as_string(hide_password=False)
    process = get_context("spawn").Process(target=_killed_in_mid_transaction, args=(url, run, 2000))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert len(stored(engine)) == 3
    with engine.connect() as connection:
        assert find_run(connection, "manual__1", 1) == run
    assert append(engine, run, lines(3, 2000)).lines == 2003
    assert [row["label"] for row in stored(engine)] == [str(number) for number in range(2003)]


def _append_at(url: str, run: Run) -> bool:
    engine = open_engine(url)
    try:
        append(engine, run, lines(0, 500))
    except Stopped:
        return False
    finally:
        engine.dispose()
    return True


def test_of_three_tasks_that_read_the_same_one_stores(engine: Engine, processes: Executor) -> None:
    store_with_nodes(engine, 1)
    run = opened(engine)
    url = engine.url.render_as_string(hide_password=False)
    outcomes = [processes.submit(_append_at, url, run) for _ in range(3)]
    assert sorted(outcome.result(60) for outcome in outcomes) == [False, False, True]
    assert len(stored(engine)) == 500


def test_a_row_that_cannot_be_stored_stores_none(engine: Engine) -> None:
    store_with_nodes(engine, 1)
    run = opened(engine)
    append(engine, run, lines(0, 2))
    behind = Chunk(Run(**{**{name: getattr(run, name) for name in run.__slots__}, "lines": 2}), lines(2, 1), "x", {})
    with engine.begin() as connection:
        store_chunk(connection, behind)
        connection.rollback()
    assert len(stored(engine)) == 2


def test_unfinished_runs(engine: Engine) -> None:
    store_with_nodes(engine, 2)
    first, second = opened(engine), opened(engine, node_id=2)
    opened(engine, run_id="c" * 64, mode="continuous")
    with engine.begin() as connection:
        change_run(connection, second, finished_ts=TS)
        assert [run.id for run in unfinished_runs(connection, "once")] == [first.id]


def test_conditions_are_those_of_the_time(engine: Engine) -> None:
    ids = store_with_nodes(engine, 2)
    rows = [
        {**sample(node_id, TS + 30 * number), "temperature_celsius": 40.0 + number, "cpu_usage_ratio": number / 10}
        for node_id in ids
        for number in range(10)
    ]
    rows[3] |= {"cpu_usage_ratio": None, "throttled": 1}
    write(engine, Batch({"node_samples": rows}))
    with engine.connect() as connection:
        found = node_conditions(connection, 1, TS + 60, TS + 120)
        first, then = (
            node_conditions(connection, 1, TS + 60, TS + 89),
            node_conditions(connection, 1, TS + 90, TS + 120),
        )
        assert node_conditions(connection, 1, TS + 1, TS + 2) == Conditions()
    assert found.columns() == {
        "temperature_max_celsius": 44.0,
        "cpu_usage_avg_ratio": pytest.approx(0.3),
        "throttled": 1,
    }
    assert found.until_ts == TS + 120
    assert first.and_then(then) == found
    assert Conditions().columns() == dict.fromkeys(found.columns())


def test_one_query_tells_where_a_result_came_from(engine: Engine) -> None:
    store_with_nodes(engine, 1)
    build = {
        "model": "reid", "version": "1", "repository": "reid", "tag": "1", "platform": "linux/amd64", "builder_id": 1,
        "spec": {}, "digest": DIGEST, "started_ts": TS,
    }  # fmt: skip
    with engine.begin() as connection:
        for run_id, revision, status in (("b1", "sha256:src", "succeeded"), ("b2", "sha256:src", "unchanged")):
            connection.execute(
                insert(builds), {**build, "run_id": run_id, "source_revision": revision, "status": status}
            )
    run = append(engine, opened(engine, container_id="c1"), lines(0, 2))
    with engine.connect() as connection:
        assert result_origin(connection, run.id, 1) == {
            "ts": TS, "kind": "person", "label": "1", "model": "reid", "digest": DIGEST,
            "source_revision": "sha256:src", "build_run_id": "b1", "node": "n1", "container_id": "c1",
            "run_id": "manual__1",
        }  # fmt: skip
        assert result_origin(connection, run.id, 2) is None


def test_an_error_of_the_database_is_one_of_ours(sqlite_engine: Engine, tmp_path: Path) -> None:
    store_with_nodes(sqlite_engine, 1)
    run = opened(sqlite_engine)
    sqlite_engine.dispose()
    (tmp_path / "metrics.db").unlink()
    with pytest.raises(DatabaseError):
        append(sqlite_engine, run, lines(0, 1))
