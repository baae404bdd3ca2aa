from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, Table, event, func, insert, select, text

from evc.store.database import embedded_url, open_engine, upgrade
from evc.store.partitions import WEEK_S, make_ahead
from evc.store.retention import KINDS, forget_identities, give_back, remove_old, size
from evc.store.rollups import roll_up
from evc.store.tables import (
    event_notices,
    identities,
    identity_galleries,
    inference_results,
    inference_results_1h,
    inference_runs_1h,
    metadata,
    node_anomalies,
    node_events,
    node_samples,
    node_samples_5m,
    probe_runs,
    sweeps,
)
from evc.store.writer import write
from tests.store.batches import TS, sample, store_with_nodes, sweep_batch

HOUR = TS - TS % 3600
WEEK = TS - TS % WEEK_S
DAY_S = 86_400


def times(engine: Engine, table: Table) -> list[int]:
    with engine.connect() as connection:
        return list(connection.execute(select(table.c.ts).distinct().order_by(table.c.ts)).scalars())


def test_each_table_that_grows_by_itself_has_a_kind() -> None:
    """Those that a person makes grow, one by one, are kept: nodes, builds, roll-outs, runs."""
    kept = {table.name for tables in KINDS.values() for table in tables}
    grow = {name for name, table in metadata.tables.items() if "ts" in table.primary_key.columns}
    assert grow == kept


def _rows(ts: int) -> dict[Table, dict[str, Any]]:
    of_run = {"run_id": 1, "node_id": 1, "model": "m", "digest": "d"}
    of_result = {**of_run, "seq": ts, "kind": "k"}
    of_hour = {"run_id": 1, "node_id": 1, "model": "m", "kind": "k", "lines": 1, "last_seq": ts, "value_count": 0}
    return {
        node_events: {"ts": ts, "node_id": 1, "kind": "down", "severity": "info", "message": ""},
        event_notices: {"ts": ts, "node_id": 1, "kind": "down", "claimed_ts": ts},
        node_anomalies: {
            "ts": ts, "node_id": 1, "what": "cpu", "end_ts": ts, "value": 1.0, "score": 3.0, "message": "",
        },
        probe_runs: {"ts": ts, "node_id": 1, "probe": "p", "success": True, "message": ""},
        inference_results: {"ts": ts, **of_result},
        inference_results_1h: {"ts": ts, **of_hour},
        inference_runs_1h: {"ts": ts, **of_run, "lines": 1, "errors": 0, "frames": 0},
        sweeps: {
            "run_id": "r", "shard": 0, "ts": ts, "duration_s": 1, "nodes_up": 1, "nodes_down": 0, "rows_written": 1,
            "missed_ticks": 0,
        },
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_older_goes_and_no_row_more(engine: Engine, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evc.store.retention.ROWS_AT_ONCE", 3)
    monkeypatch.setattr("evc.store.retention.PAUSE_S", 0)
    ids = store_with_nodes(engine, 2)
    old, young = range(HOUR - 3600, HOUR, 600), range(HOUR, HOUR + 3600, 600)
    for ts in (*old, *young):
        write(engine, sweep_batch(ids, ts))
        with engine.begin() as connection:
            for table, row in _rows(ts).items():
                connection.execute(insert(table), [row])
    roll_up(engine, HOUR + DAY_S)
    before = {table: times(engine, table) for tables in KINDS.values() for table in tables}
    removed = remove_old(engine, kind, HOUR)
    assert set(removed) == {table.name for table in KINDS[kind]}
    for table, then in before.items():
        expected = [ts for ts in then if ts >= HOUR] if table in KINDS[kind] else then
        assert times(engine, table) == expected, table.name
    had_old = {table.name: any(ts < HOUR for ts in before[table]) for table in KINDS[kind]}
    assert {name: each.rows > 0 for name, each in removed.items()} == had_old
    assert any(had_old.values())
    assert all(each.rows == 0 for each in remove_old(engine, kind, HOUR).values())


def test_an_anomaly_that_goes_on_stays(engine: Engine) -> None:
    store_with_nodes(engine, 1)
    of_one = {"node_id": 1, "ts": HOUR - 9, "value": 1.0, "score": 3.0, "message": ""}
    ends = {"cpu": None, "memory": HOUR - 1, "storage": HOUR}
    with engine.begin() as connection:
        connection.execute(insert(node_anomalies), [{"what": w, "end_ts": end, **of_one} for w, end in ends.items()])
    assert remove_old(engine, "events", HOUR)["node_anomalies"].rows == 1
    with engine.connect() as connection:
        assert set(connection.execute(select(node_anomalies.c.what)).scalars()) == {"cpu", "storage"}


def test_samples_stay_until_they_are_rolled_up(engine: Engine) -> None:
    ids = store_with_nodes(engine, 2)
    for tick in range(0, 4 * 3600, 300):
        write(engine, sweep_batch(ids, HOUR + tick))
    roll_up(engine, HOUR + 2 * 3600)  # as if it were behind
    remove_old(engine, "samples", HOUR + 4 * 3600)
    assert min(times(engine, node_samples)) == HOUR + 3600
    roll_up(engine, HOUR + 5 * 3600)
    remove_old(engine, "samples", HOUR + 4 * 3600)
    assert times(engine, node_samples) == []
    with engine.connect() as connection:
        assert connection.scalar(select(func.sum(node_samples_5m.c.samples))) == 2 * 4 * 12


def test_a_sample_from_before_what_is_kept_changes_no_bucket(engine: Engine) -> None:
    """As when a spool is drained that was forgotten for a month."""
    ids = store_with_nodes(engine, 1)
    for tick in range(10):
        write(engine, sweep_batch(ids, HOUR + 30 * tick))
    roll_up(engine, HOUR + DAY_S)
    remove_old(engine, "samples", HOUR + DAY_S)
    write(engine, sweep_batch(ids, HOUR + 15))
    assert roll_up(engine, HOUR + DAY_S)["node_samples_5m"].too_late == 1
    with engine.connect() as connection:
        assert connection.scalar(select(func.sum(node_samples_5m.c.samples))) == 10
    assert remove_old(engine, "samples", HOUR + DAY_S)["node_samples"].rows == 1


def test_it_ends_when_it_is_told_to(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evc.store.retention.ROWS_AT_ONCE", 2)
    ids = store_with_nodes(engine, 2)
    for tick in range(10):
        write(engine, sweep_batch(ids, HOUR + 30 * tick))
    left = iter([True] * 3)
    roll_up(engine, HOUR + DAY_S)
    removed = remove_old(engine, "samples", HOUR + DAY_S, lambda: next(left, False))
    assert removed["node_samples"].rows == 6


def test_partitions_go_whole_and_their_rest_by_rows(postgres_engine: Engine) -> None:
    ids = store_with_nodes(postgres_engine, 1)
    make_ahead(postgres_engine, TS)
    for ts in (TS - WEEK_S, TS, TS + WEEK_S):
        write(postgres_engine, sweep_batch(ids, ts))
    roll_up(postgres_engine, TS + 2 * WEEK_S)
    deleted: list[str] = []

    @event.listens_for(postgres_engine, "before_cursor_execute")
    def seen(_c: object, _k: object, statement: str, *_: object) -> None:
        deleted.extend([statement] if statement.startswith("DELETE") else [])

    removed = remove_old(postgres_engine, "samples", WEEK + WEEK_S + 3600)["node_samples"]
    assert removed.partitions == ("node_samples_20231109",)
    assert removed.freed_bytes > 0
    assert removed.rows == 1
    assert all("node_samples_rest" in statement for statement in deleted)
    assert times(postgres_engine, node_samples) == [TS + WEEK_S]


def test_result_lines_go_with_their_weeks(postgres_engine: Engine) -> None:
    make_ahead(postgres_engine, TS)
    of_run = {"run_id": 1, "node_id": 1, "model": "m", "digest": "d", "kind": "k"}
    rows = [{**of_run, "seq": seq, "ts": ts} for seq, ts in enumerate((TS - WEEK_S, TS, TS + WEEK_S, TS + 9 * WEEK_S))]
    with postgres_engine.begin() as connection:
        connection.execute(insert(inference_results), rows)
    removed = remove_old(postgres_engine, "results", WEEK + WEEK_S + 3600)["inference_results"]
    assert (removed.partitions, removed.rows) == (("inference_results_20231109",), 1)
    assert times(postgres_engine, inference_results) == [TS + WEEK_S, TS + 9 * WEEK_S]


def test_identities_of_every_gallery_are_forgotten(engine: Engine) -> None:
    of_one = {"describer": "d", "ts": TS, "visits": 1, "nodes": 1, "sightings": 1, "total": b""}
    with engine.begin() as connection:
        connection.execute(insert(identity_galleries), [{"name": n, "version": 0, "next_id": 3} for n in "ab"])
        rows = [{"gallery": n, "id": i, "end_ts": TS + i, **of_one} for n in "ab" for i in (1, 2)]
        connection.execute(insert(identities), rows)
    assert forget_identities(engine, TS + 2) == 2
    assert forget_identities(engine, TS + 2) == 0


# -- size --------------------------------------------------------------------------------------------------------------


def test_a_file_does_not_grow_where_as_much_goes_as_comes(sqlite_engine: Engine) -> None:
    ids = store_with_nodes(sqlite_engine, 20)
    sizes = []
    for day in range(6):
        for tick in range(60):
            write(sqlite_engine, sweep_batch(ids, HOUR + day * 3600 + 60 * tick))
        roll_up(sqlite_engine, HOUR + DAY_S * 9)
        for kind in ("samples", "details", "rollup_5m", "rollup_1h"):
            remove_old(sqlite_engine, kind, HOUR + (day - 1) * 3600)
        sizes.append(size(sqlite_engine).bytes)
    assert max(sizes[3:]) <= sizes[2] * 1.05


def test_a_file_that_evc_made_gives_empty_pages_back(sqlite_engine: Engine) -> None:
    ids = store_with_nodes(sqlite_engine, 20)
    for tick in range(120):
        write(sqlite_engine, sweep_batch(ids, HOUR + 30 * tick))
    roll_up(sqlite_engine, HOUR + DAY_S)
    full = size(sqlite_engine)
    assert give_back(sqlite_engine) == 0
    for kind in ("samples", "details"):
        remove_old(sqlite_engine, kind, HOUR + DAY_S)
    assert size(sqlite_engine).bytes == full.bytes
    given = give_back(sqlite_engine)
    assert given > full.bytes / 2
    after = size(sqlite_engine)
    assert after.bytes == full.bytes - given
    assert after.empty_bytes
    with sqlite_engine.connect() as connection:
        assert connection.scalar(text("PRAGMA integrity_check")) == "ok"


def test_a_file_of_an_older_evc_keeps_its_size(tmp_path: Path) -> None:
    (tmp_path / "metrics.db").touch()
    engine = open_engine(embedded_url(tmp_path))
    with engine.connect() as connection:
        connection.execute(text("PRAGMA journal_mode = WAL"))
    upgrade(engine)
    ids = store_with_nodes(engine, 20)
    for tick in range(60):
        write(engine, sweep_batch(ids, HOUR + 30 * tick))
    remove_old(engine, "details", HOUR + DAY_S)
    assert give_back(engine) == 0
    engine.dispose()


def test_sweeps_are_written_while_batches_are_deleted(engine: Engine) -> None:
    ids = store_with_nodes(engine, 100)
    for tick in range(100):
        write(engine, sweep_batch(ids, HOUR + 30 * tick))
    roll_up(engine, HOUR + DAY_S)
    remover = threading.Thread(
        target=lambda: [remove_old(engine, kind, HOUR + DAY_S) for kind in ("samples", "details")]
    )
    remover.start()
    slowest_s, written = 0.0, 0
    while remover.is_alive():
        begin = time.monotonic()
        write(engine, sweep_batch(ids, HOUR + 2 * DAY_S + 30 * written))
        slowest_s, written = max(slowest_s, time.monotonic() - begin), written + 1
    remover.join()
    assert written
    assert slowest_s < 10  # not what it took all of it
    assert min(times(engine, node_samples)) >= HOUR + 2 * DAY_S


def test_size_tells_the_tables_of_postgresql(postgres_engine: Engine) -> None:
    ids = store_with_nodes(postgres_engine, 10)
    write(postgres_engine, sweep_batch(ids))
    found = size(postgres_engine)
    assert found.empty_bytes is None
    assert found.bytes > found.tables["node_samples"] > 0
    assert set(found.tables) == set(metadata.tables)
    assert sample(1)["ts"] == TS
