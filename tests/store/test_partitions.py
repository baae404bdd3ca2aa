from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, Table, func, insert, select, text

from evc.errors import Stopped
from evc.fleet.results import Result
from evc.store.database import HEAD, MIGRATIONS, open_engine, upgrade
from evc.store.identities import Way, ways
from evc.store.inference import Chunk, open_run, result_origin, store_chunk
from evc.store.partitions import AHEAD, WEEK_S, drop_before, make_ahead, partitions, rest_of
from evc.store.result_rollups import roll_up_results
from evc.store.rollups import roll_up
from evc.store.tables import (
    PARTITIONED,
    SAMPLED,
    identity_visits,
    inference_results,
    metadata,
    node_samples,
    node_samples_5m,
)
from evc.store.writer import write
from tests.store.batches import TS, add_nodes, sample, store_with_nodes, sweep_batch

WEEK = TS - TS % WEEK_S


def count(engine: Engine, name: str) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(select(func.count()).select_from(text(name))) or 0)


def bounds(engine: Engine, table: Table = node_samples) -> list[tuple[int | None, int]]:
    with engine.connect() as connection:
        return [(each.begin_ts, each.end_ts) for each in partitions(connection, table)]


# -- made ahead, dropped whole -----------------------------------------------------------------------------------------


def test_weeks_are_made_ahead_once(postgres_engine: Engine) -> None:
    made = make_ahead(postgres_engine, TS)
    assert len(made) == len(PARTITIONED) * (1 + AHEAD)
    assert "node_samples_20231109" in made
    assert make_ahead(postgres_engine, TS) == []
    assert bounds(postgres_engine) == [(WEEK + n * WEEK_S, WEEK + (n + 1) * WEEK_S) for n in range(3)]
    assert len(make_ahead(postgres_engine, TS + WEEK_S)) == len(PARTITIONED)


def test_rows_go_where_they_belong_and_none_is_refused(postgres_engine: Engine) -> None:
    ids = store_with_nodes(postgres_engine, 2)
    make_ahead(postgres_engine, TS)
    times = (0, TS, TS + WEEK_S, TS + 9 * WEEK_S)
    for ts in times:
        assert write(postgres_engine, sweep_batch(ids, ts)) > 0
        assert write(postgres_engine, sweep_batch(ids, ts)) == 0
    for table in SAMPLED:
        rows = count(postgres_engine, table.name) // len(times)
        assert count(postgres_engine, f"{table.name}_20231109") == rows
        assert count(postgres_engine, f"{table.name}_20231116") == rows
        assert count(postgres_engine, rest_of(table)) == 2 * rows


def test_a_week_that_the_rest_has_rows_of_stays_there(postgres_engine: Engine) -> None:
    """As after weeks without maintain_metrics."""
    ids = store_with_nodes(postgres_engine, 1)
    write(postgres_engine, sweep_batch(ids, TS))
    made = make_ahead(postgres_engine, TS)
    assert "node_samples_20231116" in made
    assert "node_samples_20231109" not in made
    assert make_ahead(postgres_engine, TS) == []
    assert count(postgres_engine, "node_samples") == 1


def test_what_is_old_is_dropped_whole(postgres_engine: Engine) -> None:
    ids = store_with_nodes(postgres_engine, 1)
    make_ahead(postgres_engine, TS)
    for week in range(3):
        write(postgres_engine, sweep_batch(ids, TS + week * WEEK_S))
    assert drop_before(postgres_engine, node_samples, WEEK + WEEK_S - 1) == []
    (dropped,) = drop_before(postgres_engine, node_samples, WEEK + 2 * WEEK_S - 1)
    assert (dropped.name, dropped.end_ts) == ("node_samples_20231109", WEEK + WEEK_S)
    assert dropped.size_bytes > 0
    assert count(postgres_engine, "node_samples") == 2


def test_who_holds_the_table_is_not_waited_for(postgres_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evc.store.partitions._LOCK_TIMEOUT_S", 0.1)
    make_ahead(postgres_engine, TS)
    with postgres_engine.begin() as reader:
        reader.execute(select(node_samples)).all()
        assert drop_before(postgres_engine, node_samples, TS + 9 * WEEK_S) == []
    assert len(drop_before(postgres_engine, node_samples, TS + 9 * WEEK_S)) == 3


# -- 0007 and 0008: a database that is there --------------------------------------------------------------------------


def upgrade_to(engine: Engine, revision: str) -> None:
    if engine.dialect.name == "sqlite":
        Path(str(engine.url.database)).touch()
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(MIGRATIONS))
        command.upgrade(config, revision)


def write_as_before(engine: Engine, ids: list[int], ts: int) -> None:
    """Store a sweep as a version did that left no notes."""
    batch = sweep_batch(ids, ts)
    with engine.begin() as connection:
        for table in SAMPLED:
            connection.execute(insert(table), batch.tables[table.name])


def everything(engine: Engine) -> dict[str, list[Any]]:
    with engine.connect() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns))]
            for table in PARTITIONED
        }


def test_a_database_that_is_there_loses_nothing(empty_url: str) -> None:
    engine = open_engine(empty_url)
    upgrade_to(engine, "0006")
    now_ts = int(time.time())
    with engine.begin() as connection:
        ids = add_nodes(connection, 3)
    for ts in (7, now_ts - 40 * 86_400, now_ts - 3600, now_ts - 3000, now_ts, now_ts + 30 * 86_400):
        write_as_before(engine, ids, ts)
    before = everything(engine)
    assert upgrade(engine) == ("0006", HEAD)
    assert everything(engine) == before
    assert write(engine, sweep_batch(ids, now_ts)) == 9  # readings, status, last_seen_ts: the samples are there already
    write(engine, sweep_batch(ids, now_ts + 30))
    roll_up(engine, now_ts)
    with engine.connect() as connection:
        assert connection.scalar(select(func.sum(node_samples_5m.c.samples))) == 3 * 4
    write_as_before(engine, ids, now_ts + 900)  # by a run that began before
    roll_up(engine, now_ts + 3600)
    with engine.connect() as connection:
        assert connection.scalar(select(func.sum(node_samples_5m.c.samples))) == 3 * 7
    engine.dispose()


def test_the_old_table_is_the_first_partition_until_it_is_dropped(postgres_server: Any) -> None:
    with postgres_server.database() as name:
        engine = open_engine(postgres_server.url(name))
        upgrade_to(engine, "0006")
        now_ts = int(time.time())
        with engine.begin() as connection:
            ids = add_nodes(connection, 1)
        write_as_before(engine, ids, now_ts - 600)
        write_as_before(engine, ids, now_ts + 40 * 86_400)
        upgrade(engine)
        week_end = now_ts - now_ts % WEEK_S + WEEK_S
        assert bounds(engine) == [(None, week_end)]
        assert count(engine, "node_samples_before") == count(engine, "node_samples_rest") == 1
        made = make_ahead(engine, now_ts)
        assert len([name for name in made if not name.startswith("inference_results")]) == len(SAMPLED) * AHEAD
        assert bounds(engine)[1:] == [(week_end + n * WEEK_S, week_end + (n + 1) * WEEK_S) for n in range(AHEAD)]
        assert [each.name for each in drop_before(engine, node_samples, week_end)] == ["node_samples_before"]
        engine.dispose()


def test_an_upgraded_database_is_as_a_new_one(postgres_server: Any) -> None:
    """Keys and indexes of the parents; the first partition has the same as each other."""
    query = text("SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2")
    found = []
    for revision in ("0006", "head"):
        with postgres_server.database() as name:
            engine = open_engine(postgres_server.url(name))
            upgrade_to(engine, revision)
            if revision == "0006":
                with engine.begin() as connection:
                    ids = add_nodes(connection, 1)
                write_as_before(engine, ids, int(time.time()) - WEEK_S)
                write_lines_as_before(engine, [int(time.time()) - WEEK_S])
            upgrade(engine)
            with engine.connect() as connection:
                rows = [tuple(row) for row in connection.execute(query)]
            found.append([row for row in rows if row[0] in metadata.tables])
            if revision == "0006":
                assert sum(row[0] == "node_samples_before" for row in rows) == 2
                assert sum(row[0] == "inference_results_before" for row in rows) == 3
            engine.dispose()
    assert found[0] == found[1]


# -- 0013: result lines that are there ---------------------------------------------------------------------------------

_RUN = {"run_id": "r", "node_id": 1, "model": "m", "digest": "d", "mode": "once", "status": "running", "started_ts": TS}


def write_lines_as_before(engine: Engine, times: list[int]) -> None:
    """Store a run of a line for each time, in a database of any revision."""
    of_run = {"run_id": 1, "node_id": 1, "model": "m", "digest": "d", "kind": "k", "payload": {"a": [1]}}
    with engine.begin() as connection:
        open_run(connection, {**_RUN, "lines": len(times)})
        rows = [{**of_run, "seq": seq, "ts": ts, "label": str(seq)} for seq, ts in enumerate(times)]
        connection.execute(insert(inference_results), rows)


def lines_of(engine: Engine) -> list[Any]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(select(inference_results).order_by(inference_results.c.seq))]


def test_result_lines_that_are_there_stay_and_the_next_ones_follow(empty_url: str) -> None:
    engine = open_engine(empty_url)
    upgrade_to(engine, "0011")
    now_ts = int(time.time())
    with engine.begin() as connection:
        add_nodes(connection, 1)
    write_lines_as_before(engine, [now_ts, 7, now_ts + 30 * 86_400, now_ts - 40 * 86_400, now_ts])
    before = lines_of(engine)
    assert upgrade(engine) == ("0011", HEAD)
    assert lines_of(engine) == before
    with engine.begin() as connection:
        run = open_run(connection, _RUN)
        assert run.lines == 5
        store_chunk(connection, Chunk(run, [Result(now_ts, "k", "5", None, None, None, None)], "", {}))
    with pytest.raises(Stopped), engine.begin() as connection:  # another time makes it no other line
        store_chunk(connection, Chunk(run, [Result(now_ts + 1, "k", "5", None, None, None, None)], "", {}))
    assert [line[1] for line in lines_of(engine)] == list(range(6))
    assert roll_up_results(engine, now_ts + 7200).rows == 3 * 3  # one line is of next month
    with engine.connect() as connection:
        origin = result_origin(connection, 1, 2)
        assert origin
        assert (origin["ts"], origin["label"]) == (now_ts + 30 * 86_400, "2")
        if engine.dialect.name == "sqlite":
            assert connection.execute(text("PRAGMA integrity_check")).scalar() == "ok"
            by_time = "SELECT seq FROM inference_results INDEXED BY ix_inference_results_ts WHERE ts = :ts ORDER BY 1"
            assert connection.execute(text(by_time), {"ts": now_ts}).scalars().all() == [0, 4, 5]
    engine.dispose()


def test_the_lines_that_were_there_are_the_first_partition(postgres_server: Any) -> None:
    with postgres_server.database() as name:
        engine = open_engine(postgres_server.url(name))
        upgrade_to(engine, "0011")
        now_ts = int(time.time())
        with engine.begin() as connection:
            add_nodes(connection, 1)
        write_lines_as_before(engine, [now_ts - 600, now_ts + 40 * 86_400])
        upgrade(engine)
        week_end = now_ts - now_ts % WEEK_S + WEEK_S
        assert bounds(engine, inference_results) == [(None, week_end)]
        assert count(engine, "inference_results_before") == count(engine, rest_of(inference_results)) == 1
        make_ahead(engine, now_ts)
        assert len(bounds(engine, inference_results)) == 1 + AHEAD
        assert [each.name for each in drop_before(engine, inference_results, week_end)] == ["inference_results_before"]
        assert [line[1] for line in lines_of(engine)] == [1]
        engine.dispose()


# -- 0015: visits that are there ---------------------------------------------------------------------------------------


def test_visits_that_are_there_get_their_ways(empty_url: str) -> None:
    engine = open_engine(empty_url)
    upgrade_to(engine, "0014")
    visit = {"gallery": "g", "track": "1", "end_ts": TS + 1, "sightings": 1}
    told = ((1, 1, 1, TS), (2, 2, 1, TS + 60), (3, 2, 1, TS + 120), (4, 1, 2, TS + 30), (5, 1, 1, TS + 180))
    rows = [
        {**visit, "run_id": run, "node_id": node, "identity_id": identity, "ts": ts} for run, node, identity, ts in told
    ]
    with engine.begin() as connection:
        connection.execute(insert(identity_visits), [*rows, {**rows[0], "gallery": "other", "run_id": 9}])
    upgrade(engine)
    with engine.connect() as connection:
        assert ways(connection, "g", TS, TS + 200) == [
            Way(1, 1, 2, TS + 1, TS + 60), Way(1, 2, 1, TS + 1, TS + 180),
        ]  # fmt: skip
        assert ways(connection, "other", TS, TS + 200) == []
    engine.dispose()


def test_a_row_of_a_week_is_read_from_its_partition_alone(postgres_engine: Engine) -> None:
    (node_id,) = store_with_nodes(postgres_engine, 1)
    make_ahead(postgres_engine, TS)
    with postgres_engine.begin() as connection:
        connection.execute(insert(node_samples), [sample(node_id, TS)])
        query = "EXPLAIN SELECT * FROM node_samples WHERE ts >= %s AND ts < %s"
        plan = connection.exec_driver_sql(query, (TS, TS + 3600))
        shown = "\n".join(plan.scalars())
    assert "node_samples_20231109" in shown
    assert "node_samples_20231116" not in shown
    assert "node_samples_rest" in shown or "rest" not in shown


def test_a_week_that_could_not_be_made_is_made_later(postgres_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    from evc.store import partitions as module

    make = module._make
    with monkeypatch.context() as patch:
        # what a lock that is not had makes it return
        patch.setattr(module, "_make", lambda engine, table, ts: ts != WEEK and make(engine, table, ts))
        assert "node_samples_20231109" not in make_ahead(postgres_engine, TS)
    assert "node_samples_20231109" in make_ahead(postgres_engine, TS)
    assert len(bounds(postgres_engine)) == 1 + AHEAD


def test_a_clock_that_was_ahead_ends_no_partitions(postgres_engine: Engine) -> None:
    make_ahead(postgres_engine, TS + 52 * WEEK_S)
    assert len(make_ahead(postgres_engine, TS)) == len(PARTITIONED) * (1 + AHEAD)
