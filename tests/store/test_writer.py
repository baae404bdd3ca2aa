from __future__ import annotations

import json
import logging
from concurrent.futures import Executor
from math import inf, nan
from typing import Any

import pytest
from sqlalchemy import Engine, Table, select, text

from evc.store.nodes import remove_node
from evc.store.rollups import ROLLUPS
from evc.store.tables import metadata, node_samples, nodes
from evc.store.writer import TABLES, Batch, readings, write
from tests.store.batches import TS, reading, sample, store_with_nodes, sweep_batch, write_sweeps

RUN = {
    "run_id": "scheduled__1", "shard": 0, "ts": TS, "duration_s": 1.5, "nodes_up": 2, "nodes_down": 1,
    "rows_written": 27, "missed_ticks": 0,
}  # fmt: skip
PROBE_RUN = {"ts": TS, "node_id": 2, "probe": "gpu", "success": False, "message": "no such file"}
EVENT = {"ts": TS, "node_id": 3, "kind": "down", "severity": "error", "message": "no answer"}


def rows_of(engine: Engine, table: Table) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        query = select(table).order_by(*table.primary_key.columns)
        return [dict(row) for row in connection.execute(query).mappings()]


def everything(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    return {name: rows_of(engine, table) for name, table in metadata.tables.items()}


def node_row(engine: Engine, node_id: int) -> dict[str, Any]:
    return next(row for row in rows_of(engine, nodes) if row["id"] == node_id)


def full_batch(ids: list[int]) -> Batch:
    """Two nodes that answered, one that did not, and a row in every table."""
    batch = sweep_batch(ids[:2])
    batch.tables["node_samples"].append({"ts": TS, "node_id": ids[2], "up": 0})
    batch.tables |= {"sweeps": [RUN], "probe_runs": [PROBE_RUN], "node_events": [EVENT]}
    batch.nodes.append({"id": ids[2], "status": "down"})
    return batch


def test_what_is_written_is_there(engine: Engine) -> None:
    ids = store_with_nodes(engine, 3)
    batch = full_batch(ids)
    assert set(batch.tables) == set(TABLES)
    # rows, then last_seen_ts of two nodes and the status of three
    assert write(engine, batch) == sum(map(len, batch.tables.values())) + 2 + 3
    found = everything(engine)
    for name, rows in batch.tables.items():
        key = [column.name for column in metadata.tables[name].primary_key.columns]
        complete = [dict.fromkeys(metadata.tables[name].columns.keys()) | row for row in rows]
        assert found[name] == sorted(complete, key=lambda row: [row[column] for column in key]), name
    assert [(row["status"], row["last_seen_ts"]) for row in found["nodes"]] == [("up", TS), ("up", TS), ("down", None)]


def test_a_second_write_changes_nothing(engine: Engine) -> None:
    ids = store_with_nodes(engine, 3)
    batch = full_batch(ids)
    write(engine, batch)
    before = everything(engine)
    assert write(engine, batch) == 0
    assert everything(engine) == before


def test_an_older_batch_changes_nothing_that_is_newer(engine: Engine) -> None:
    """As when the spool is drained after samples were written directly."""
    ids = store_with_nodes(engine, 3)
    write(engine, sweep_batch(ids, TS + 60))
    newer = everything(engine)
    older = sweep_batch(ids, TS)
    for row in older.nodes:
        row |= {"status": "down", "kernel": "old"}
    write(engine, older)
    found = everything(engine)
    assert len(found["node_samples"]) == 6, "the samples themselves are kept"
    for name in ("nodes", "node_readings"):
        assert found[name] == newer[name]


def test_what_is_newer_counts_by_node(engine: Engine) -> None:
    ids = store_with_nodes(engine, 2)
    write(engine, sweep_batch(ids[:1], TS + 60))
    write(engine, sweep_batch(ids[1:], TS))
    assert node_row(engine, ids[1])["status"] == "up"


def test_a_batch_survives_json(engine: Engine) -> None:
    ids = store_with_nodes(engine, 3)
    batch = full_batch(ids)
    copy = Batch(**json.loads(json.dumps({"tables": batch.tables, "nodes": batch.nodes})))
    write(engine, batch)
    assert write(engine, copy) == 0


def test_an_empty_batch(engine: Engine) -> None:
    assert write(engine, Batch()) == 0
    assert write(engine, Batch({"node_samples": []}, [])) == 0


def test_one_row(engine: Engine) -> None:
    ids = store_with_nodes(engine, 1)
    assert write(engine, Batch({"node_samples": [sample(ids[0])]})) == 1


def test_a_removed_node_is_not_brought_back(engine: Engine) -> None:
    ids = store_with_nodes(engine, 2)
    with engine.begin() as connection:
        remove_node(connection, "n1", TS - 10)
    before = node_row(engine, ids[0])
    write(engine, sweep_batch(ids))
    assert node_row(engine, ids[0]) == before
    assert node_row(engine, ids[1])["status"] == "up"
    assert len(rows_of(engine, node_samples)) == 2, "its last samples are kept"


def test_a_node_that_waits_for_its_cleanup_keeps_waiting(engine: Engine) -> None:
    ids = store_with_nodes(engine, 1)
    with engine.begin() as connection:
        connection.execute(nodes.update().values(status="pending_cleanup"))
    write(engine, sweep_batch(ids))
    row = node_row(engine, ids[0])
    assert (row["status"], row["last_seen_ts"]) == ("pending_cleanup", TS)


def test_last_seen_never_goes_back(engine: Engine) -> None:
    ids = store_with_nodes(engine, 1)
    for ts in (TS, TS + 30, TS + 10):
        write(engine, Batch(nodes=[{"id": ids[0], "last_seen_ts": ts}]))
    assert node_row(engine, ids[0])["last_seen_ts"] == TS + 30


def test_facts_are_set_as_columns_or_as_a_mapping(engine: Engine) -> None:
    ids = store_with_nodes(engine, 2)
    write(
        engine,
        Batch(
            nodes=[
                {"id": ids[0], "arch": "aarch64", "cpu_count": 4},
                {"id": ids[1], "facts": {"arch": "x86_64", "memory_bytes": 2**34}},
            ]
        ),
    )
    assert [(row["arch"], row["cpu_count"], row["memory_bytes"]) for row in rows_of(engine, nodes)] == [
        ("aarch64", 4, None),
        ("x86_64", None, 2**34),
    ]


def test_a_host_key_is_only_pinned_where_none_is(engine: Engine) -> None:
    ids = store_with_nodes(engine, 1)
    for key in ("ssh-ed25519 FIRST", "ssh-ed25519 SECOND"):
        write(engine, Batch(nodes=[{"id": ids[0], "host_key": key}]))
    assert node_row(engine, ids[0])["host_key"] == "ssh-ed25519 FIRST"


def test_a_status_of_none_changes_nothing(engine: Engine) -> None:
    ids = store_with_nodes(engine, 1)
    assert write(engine, Batch(nodes=[{"id": ids[0], "status": None, "host_key": None, "last_seen_ts": None}])) == 0
    assert node_row(engine, ids[0])["status"] == "unknown"


def test_an_unknown_node_loses_only_its_own_rows(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    ids = store_with_nodes(engine, 3)
    with engine.begin() as connection:
        connection.execute(nodes.delete().where(nodes.c.id == ids[1]))
    batch = sweep_batch([*ids, 9_999])
    with caplog.at_level(logging.WARNING):
        write(engine, batch)
    assert [row["node_id"] for row in rows_of(engine, node_samples)] == [ids[0], ids[2]]
    assert set(readings_of(engine)) == {ids[0], ids[2]}
    assert "node_samples: left out the rows of nodes that are not registered, ids 2, 9999" in caplog.messages


def readings_of(engine: Engine) -> dict[int, dict[str, Any]]:
    with engine.connect() as connection:
        return readings(connection)


def test_readings_come_back_as_they_were_written(engine: Engine) -> None:
    ids = store_with_nodes(engine, 2)
    write(engine, sweep_batch(ids))
    assert readings_of(engine) == {node_id: reading(node_id) for node_id in ids}


def test_of_readings_the_newest_wins(engine: Engine) -> None:
    ids = store_with_nodes(engine, 1)
    for ts in (TS, TS + 60, TS + 30):
        write(engine, Batch({"node_readings": [reading(ids[0], ts)]}))
    assert readings_of(engine) == {ids[0]: reading(ids[0], TS + 60)}
    write(engine, Batch({"node_readings": [reading(ids[0], TS + 90), reading(ids[0], TS + 120), reading(ids[0], TS)]}))
    assert readings_of(engine) == {ids[0]: reading(ids[0], TS + 120)}


def test_one_bad_value_costs_no_other(engine: Engine) -> None:
    """What a broken or hostile node may send: nothing of it may fail the batch of a thousand others."""
    ids = store_with_nodes(engine, 2)
    batch = sweep_batch(ids)
    bad = batch.tables["node_samples"][0]
    bad |= {
        "load1": nan,
        "load5": inf,
        "load15": -inf,
        "cpu_usage_ratio": 10**400,
        "uptime_s": "soon",
        "throttled": 70_000,
    }
    bad |= {"memory_total_bytes": 2**64 - 1, "memory_free_bytes": -(10**30), "storage_total_bytes": 1.9}
    batch.tables["temperature_samples"][0] |= {"zone": "z\0" * 100, "celsius": 41.0}
    batch.tables["temperature_samples"][1] |= {"celsius": nan}
    batch.tables["storage_samples"][0] |= {"device": "\udc80\ud800", "mountpoint": "/" + "마" * 400}
    batch.tables["node_readings"][0] |= {"counters": {"cpu": [nan, "\0\ud800", 2**70]}, "boot_id": "\0"}
    batch.nodes[0] |= {"kernel": "\0" * 9, "memory_bytes": 2**80}
    write(engine, batch)
    first, second = rows_of(engine, node_samples)
    assert second == sample(ids[1])
    for name in ("load1", "load5", "load15", "cpu_usage_ratio", "uptime_s", "throttled", "memory_total_bytes"):
        assert first[name] is None, name
    assert first["storage_total_bytes"] == 1
    zones = rows_of(engine, metadata.tables["temperature_samples"])
    assert [row["zone"] for row in zones[:2]] == ["soc-thermal", "z\ufffd" * 32]
    assert rows_of(engine, metadata.tables["storage_samples"])[0]["mountpoint"] == "/" + "마" * 254
    assert readings_of(engine)[ids[0]]["counters"]["cpu"][0] is None


def test_a_row_twice_in_a_batch_is_one(engine: Engine) -> None:
    ids = store_with_nodes(engine, 1)
    assert write(engine, Batch({"node_samples": [sample(ids[0]), {**sample(ids[0]), "load1": 99.0}]})) == 1
    assert rows_of(engine, node_samples) == [sample(ids[0])]


@pytest.mark.parametrize(
    "batch",
    [
        Batch({"nodes": []}),
        Batch({"node_samples": [{"ts": TS, "node_id": 1, "up": 1, "colour": 1}]}),
        Batch(nodes=[{"id": 1, "name": "renamed"}]),
        Batch(nodes=[{"id": 1, "facts": {"removed_ts": 1}}]),
    ],
)
def test_what_no_sweep_may_write(sqlite_engine: Engine, batch: Batch) -> None:
    with pytest.raises(ValueError, match="no columns|no tables"):
        write(sqlite_engine, batch)


def test_a_batch_that_fails_leaves_nothing(engine: Engine) -> None:
    ids = store_with_nodes(engine, 2)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE node_events"))
        connection.execute(text("CREATE TABLE node_events (ts INTEGER)"))
    before = rows_of(engine, nodes)
    batch = sweep_batch(ids)
    batch.tables["node_events"] = [{**EVENT, "node_id": ids[0]}]
    with pytest.raises(Exception, match="column"):
        write(engine, batch)
    assert rows_of(engine, node_samples) == []
    assert rows_of(engine, nodes) == before


def test_processes_write_shards_at_once(engine: Engine, processes: Executor) -> None:
    ids = store_with_nodes(engine, 300)
    url = engine.url.render_as_string(hide_password=False)
    shards = [ids[start::3] for start in range(3)]
    done = [processes.submit(write_sweeps, url, shard, 10) for shard in shards]
    assert [future.result(60) for future in done] == [100 * 9 * 10 + 100] * 3
    assert len(rows_of(engine, node_samples)) == 3000


def test_processes_write_the_same_rows_at_once(engine: Engine, processes: Executor) -> None:
    """Each in another order: whoever comes second waits, none is refused, nothing is written twice."""
    ids = store_with_nodes(engine, 300)
    url = engine.url.render_as_string(hide_password=False)
    orders = [ids, ids[::-1], ids[150:] + ids[:150]]
    done = [processes.submit(write_sweeps, url, order, 10) for order in orders]
    assert sum(future.result(60) for future in done) == 300 * 9 * 10 + 300
    assert len(rows_of(engine, node_samples)) == 3000


def test_every_table_that_a_sweep_fills_is_written() -> None:
    by_others = {"nodes", "geocodes", "models", "builds", "registry_images", "assignments"}
    by_others |= {"rollouts", "rollout_nodes", "inference_runs", "inference_results", "scenario_runs"}
    by_others |= {"identities", "identity_galleries", "identity_cursors", "identity_visits"}
    by_others |= {"rollout_approvals", "rollup_notes", "history_marks"}
    by_others |= {rollup.table.name for rollup in ROLLUPS}
    by_others |= {"node_anomalies", "event_notices", "registry_checks"}
    by_others |= {"inference_runs_5m", "inference_runs_1h", "inference_results_1h"}
    assert set(TABLES) == set(metadata.tables) - by_others
