# ruff: noqa: S608  its statements are made of names and numbers of this file
"""A history as years of sweeps would leave it, made by the database itself, which takes minutes instead of years.

Each node has a load that follows its day, noise of its own, and now and then does not answer. Boards differ: half of
them have a GPU, a quarter can throttle. Rollups older than the samples are drawn in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Engine, insert, text

from evc.store.database import open_engine
from evc.store.partitions import WEEK_S, are_in
from evc.store.rollups import COARSE, FINE, ROLLUPS, Rollup
from evc.store.tables import PARTITIONED, ROLLED_UP, nodes, rollup_notes

DAY_S = 86_400
_FILLED = (*PARTITIONED, *(rollup.table for rollup in ROLLUPS))
_SWEEP_S = 30
_STORAGE_S = 300
_HOUR_S = 3600
_SWEEPS_DAYS = 30
_BEHIND_S = 660


@dataclass(frozen=True, slots=True)
class Scale:
    """How much there is.

    :param samples_days, details_days, fine_days, coarse_days: of samples, details, five-minute and longer rollups
    """

    nodes: int
    samples_days: int
    details_days: int
    fine_days: int
    coarse_days: int


def fill(url: str, scale: Scale, end_ts: int) -> None:
    """Make a history that ends at ``end_ts`` in an empty database with EVC's tables."""
    engine = open_engine(url)
    try:
        _store_nodes(engine, scale.nodes, end_ts)
        _make_partitions(engine, end_ts, max(scale.samples_days, scale.details_days))
        with _without_indexes(engine):
            _execute_all(engine, list(_statements(engine.dialect.name, scale, end_ts)))
        _note_unmade(engine, scale, end_ts)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ANALYZE" if engine.dialect.name == "sqlite" else "VACUUM ANALYZE"))
    finally:
        engine.dispose()


@contextmanager
def _without_indexes(engine: Engine) -> Iterator[None]:
    """Drop PostgreSQL's indexes and make them anew at the end, which is quicker."""
    if not are_in(engine):
        yield
        return
    with engine.begin() as connection:
        for table in _FILLED:
            connection.execute(text(f"ALTER TABLE {table.name} DROP CONSTRAINT pk_{table.name}"))
            for index in table.indexes:
                index.drop(connection)
    yield
    for table in _FILLED:
        key = ", ".join(table.primary_key.columns.keys())
        _execute(engine, f"ALTER TABLE {table.name} ADD CONSTRAINT pk_{table.name} PRIMARY KEY ({key})")
        for index in table.indexes:
            index.create(engine)


def _execute_all(engine: Engine, statements: list[str]) -> None:
    """Execute statements, on PostgreSQL two at once: each is a process of its own there."""
    pool = ThreadPoolExecutor(2 if are_in(engine) else 1)
    try:
        list(pool.map(partial(_execute, engine), statements))
    finally:
        pool.shutdown(cancel_futures=True)  # who ends the bench does not wait for all of them


def _execute(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement))


def _store_nodes(engine: Engine, count: int, end_ts: int) -> None:
    rows: list[dict[str, Any]] = [
        {
            "id": number, "name": f"node-{number}", "host": f"10.0.{number >> 8}.{number & 255}", "port": 22,
            "conn_id": "evc_nodes", "groups": [f"site-{number % 10}"], "labels": {}, "address": f"{number} Road",
            "latitude": 33.0 + number % 50 / 10, "longitude": 126.0 + number % 30 / 10, "cpu_count": 4,
            "thermal_unit": "millidegree_celsius", "status": "up", "registered_ts": end_ts - 400 * DAY_S,
            "last_seen_ts": end_ts,
        }
        for number in range(1, count + 1)
    ]  # fmt: skip
    with engine.begin() as connection:
        connection.execute(insert(nodes), rows)


def _make_partitions(engine: Engine, end_ts: int, days: int) -> None:
    if not are_in(engine):
        return
    first = (end_ts - days * DAY_S) // WEEK_S * WEEK_S
    with engine.begin() as connection:
        for table in PARTITIONED:
            for begin_ts in range(first, end_ts + WEEK_S, WEEK_S):
                bounds = f"FROM ({begin_ts}) TO ({begin_ts + WEEK_S})"
                made = f"CREATE TABLE {table.name}_{begin_ts} PARTITION OF {table.name} FOR VALUES {bounds}"
                connection.execute(text(made))


def _statements(dialect: str, scale: Scale, end_ts: int) -> Iterator[str]:
    """Yield INSERTs of a day each, in the order of time."""
    for begin in _days(end_ts, scale.samples_days):
        yield _samples(dialect, begin)
    for begin in _days(end_ts, scale.details_days):
        yield from _details(dialect, begin)
    for rollup in ROLLUPS:
        yield from _rollup(dialect, rollup, scale, end_ts)
    for begin in _days(end_ts, min(scale.coarse_days, _SWEEPS_DAYS)):
        yield _sweeps(begin)
    for begin in _days(end_ts, scale.coarse_days):
        yield from _happenings(dialect, begin)
    if scale.coarse_days:
        yield from _readings(end_ts)


def _days(end_ts: int, days: int) -> range:
    return range(end_ts - days * DAY_S, end_ts, DAY_S)


def _noise(dialect: str) -> str:
    """Return SQL for a number from 0 to 1, another one each time."""
    return "random()" if dialect == "postgresql" else "((random() & 1048575) / 1048576.0)"


def _ticks(begin_ts: int, step_s: int, last: int | None = None) -> str:
    last = begin_ts + DAY_S - step_s if last is None else last
    return (
        f"WITH RECURSIVE ticks(ts) AS (SELECT CAST({begin_ts} AS bigint)"
        f" UNION ALL SELECT ts + {step_s} FROM ticks WHERE ts < {last}),"
    )


def _given(dialect: str) -> str:
    """Return SQL for what a node has at a tick: ``busy`` 0 to 1, by its hour, and noise ``x``, ``y``."""
    noise = _noise(dialect)
    # PostgreSQL draws once for each row anyway, and would write them all to a file of its own
    once = "MATERIALIZED" if dialect == "sqlite" else "NOT MATERIALIZED"
    hour = "abs((t.ts / 3600 + n.id) % 24 - 12) / 12.0"
    return (
        f" given AS {once} (SELECT t.ts, n.id AS node_id, {noise} AS x, {noise} AS y,"
        f" {noise} > 0.001 AS up, 0.1 + 0.6 * {hour} AS busy, n.id % 2 = 0 AS has_gpu, n.id % 4 = 0 AS can_throttle"
        f" FROM ticks AS t CROSS JOIN nodes AS n)"
    )


_VALUES = {
    "sweep_duration_s": "0.05 + x * 0.2",
    "uptime_s": "ts % 2000000 + 0.25",
    "cpu_usage_ratio": "busy + x * 0.3",
    "cpu_iowait_ratio": "x * y * 0.05",
    "cpu_steal_ratio": "0.0",
    "load1": "busy * 4 + y",
    "load5": "busy * 4 + y * 0.5",
    "load15": "busy * 4 + y * 0.2",
    "memory_total_bytes": "8201183232",
    "memory_free_bytes": "1000000000 + x * 500000000",
    "memory_available_bytes": "3000000000 + y * 1000000000",
    "swap_total_bytes": "2147483648",
    "swap_free_bytes": "2000000000 + x * 100000000",
    "storage_total_bytes": "62725623808",
    "storage_used_bytes": "20000000000 + ts % 2000000 * 1000",
    "storage_available_bytes": "40000000000 - ts % 2000000 * 1000",
    "network_receive_bytes_per_s": "busy * 1000000 * (0.5 + x)",
    "network_transmit_bytes_per_s": "busy * 200000 * (0.5 + y)",
    "temperature_celsius": "40 + busy * 25 + x * 5",
    "pressure_cpu_ratio": "busy * x * 0.2",
    "pressure_memory_ratio": "0.0",
    "pressure_io_ratio": "y * 0.02",
}
_BYTES = {name for name in _VALUES if name.endswith("_bytes")}


def _value(column: str) -> str:
    value = f"CAST({_VALUES[column]} AS bigint)" if column in _BYTES else _VALUES[column]
    return f"CASE WHEN up THEN {value} END"


def _samples(dialect: str, begin_ts: int) -> str:
    columns = ["ts", "node_id", "up", *_VALUES, "gpu_usage_ratio", "throttled", "throttled_since_boot"]
    values = [
        "ts", "node_id", "CASE WHEN up THEN 1 ELSE 0 END", *map(_value, _VALUES),
        "CASE WHEN up AND has_gpu THEN y END", *["CASE WHEN up AND can_throttle THEN 0 END"] * 2,
    ]  # fmt: skip
    return _insert("node_samples", _ticks(begin_ts, _SWEEP_S) + _given(dialect), columns, values, "given")


def _insert(table: str, source: str, columns: list[str], values: list[str], of: str, where: str = "true") -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) {source} SELECT {', '.join(values)} FROM {of} WHERE {where}"


def _details(dialect: str, begin_ts: int) -> Iterator[str]:
    source = _ticks(begin_ts, _SWEEP_S) + _given(dialect)
    zones = "SELECT 'cpu-thermal' AS zone UNION ALL SELECT 'gpu-thermal' UNION ALL SELECT 'soc-thermal'"
    columns = ["ts", "node_id", "zone", "celsius"]
    of = f"given CROSS JOIN ({zones}) AS zones"
    yield _insert("temperature_samples", source, columns, ["ts", "node_id", "zone", "40 + busy * 25 + x"], of)
    rates = ["receive_bytes_per_s", "transmit_bytes_per_s"]
    rates += [f"{way}_{what}_per_s" for way in ("receive", "transmit") for what in ("errors", "drops")]
    faces = "SELECT 'eth0' AS interface UNION ALL SELECT 'wlan0'"
    values = ["ts", "node_id", "interface", "busy * 500000 * x", "busy * 100000 * y", *["0.0"] * 4]
    of = f"given CROSS JOIN ({faces}) AS faces"
    yield _insert("network_samples", source, ["ts", "node_id", "interface", *rates], values, of)
    source = _ticks(begin_ts, _STORAGE_S) + _given(dialect)
    columns = ["ts", "node_id", "mountpoint", "device", "filesystem", "total_bytes", "used_bytes", "available_bytes"]
    columns += ["inodes_total", "inodes_free", "read_only"]
    values = ["ts", "node_id", "'/'", "'/dev/mmcblk0p2'", "'ext4'", "62725623808", "20000000000", "40000000000"]
    yield _insert("storage_samples", source, columns, [*values, "3907584", "3500000", "false"], "given")


def _sweeps(begin_ts: int) -> str:
    source = _ticks(begin_ts, _SWEEP_S).rstrip(",")
    run = f"'collect_telemetry.sweep_nodes {begin_ts}'"
    count = "(SELECT count(*) FROM nodes)"
    columns = ["run_id", "shard", "ts", "duration_s", "nodes_up", "nodes_down", "rows_written", "missed_ticks"]
    return _insert("sweeps", source, columns, [run, "0", "ts", "4.5", count, "0", f"{count} * 8", "0"], "ticks")


def _happenings(dialect: str, begin_ts: int) -> Iterator[str]:
    """Yield what a day's outages leave: about three a node do not last, one of twelve does and is an event."""
    source = _ticks(begin_ts, _HOUR_S) + _given(dialect)
    columns = ["ts", "node_id", "probe", "success", "message"]
    for offset_s, success, message in ((0, "false", "no answer within 10 s"), (30, "true", "")):
        values = [f"ts + {offset_s}", "node_id", "'ssh'", success, f"'{message}'"]
        yield _insert("probe_runs", source, columns, values, "given", "x < 0.12")
    columns = ["ts", "node_id", "kind", "severity", "message"]
    for offset_s, kind, severity in ((0, "down", "error"), (90, "up", "info")):
        values = [f"ts + {offset_s}", "node_id", f"'{kind}'", f"'{severity}'", "'no answer within 10 s'"]
        yield _insert("node_events", source, columns, values, "given", "y < 0.01")


def _readings(end_ts: int) -> Iterator[str]:
    """Yield the last readings: of one node in fifty a probe fails."""
    columns = ["node_id", "ts", "uptime_s", "missed_sweeps", "counters", "failing"]
    for failing, where in (('{"gpu": "no such file"}', "id % 50 = 0"), ("{}", "id % 50 <> 0")):
        values = ["id", str(end_ts - _SWEEP_S), "100000.0", "0", "'{}'", f"'{failing}'"]
        yield _insert("node_readings", "", columns, values, "nodes", where)


def _made_until(rollup: Rollup, end_ts: int) -> int:
    """Return the end of the last bucket that is made, ``maintain_metrics`` being as late as it may."""
    return rollup.bucket(end_ts - _BEHIND_S)


def _rollup(dialect: str, rollup: Rollup, scale: Scale, end_ts: int) -> Iterator[str]:
    """Yield the INSERTs of a rollup, some buckets at a time, as they would come."""
    days = scale.fine_days if rollup is FINE else scale.coarse_days
    until, step_s = _made_until(rollup, end_ts), max(DAY_S, rollup.bucket_s)
    columns, values = _rollup_columns(rollup)
    for begin in range(rollup.bucket(end_ts - days * DAY_S), until, step_s):
        last = min(begin + step_s, until) - rollup.bucket_s
        source = _ticks(begin, rollup.bucket_s, last) + _given(dialect)
        yield _insert(rollup.table.name, source, columns, values, "given")


def _rollup_columns(rollup: Rollup) -> tuple[list[str], list[str]]:
    columns, values = ["ts", "node_id"], ["ts", "node_id"]
    # about three sweeps a day are missed, one by one
    missed = f"CASE WHEN y < {3 * rollup.bucket_s / DAY_S} THEN {_SWEEP_S / rollup.bucket_s} ELSE 0.0 END"
    columns += ["samples", "up_ratio"]
    values += [str(rollup.bucket_s // _SWEEP_S), f"1.0 - {missed}"]
    for column in ROLLED_UP:
        mean = "CASE WHEN has_gpu THEN y END" if column == "gpu_usage_ratio" else _VALUES[column]
        columns += [f"{column}_min", f"{column}_avg", f"{column}_max"]
        values += [f"0.9 * ({mean})", mean, f"1.1 * ({mean})"]
    for column in ("memory_total_bytes", "swap_total_bytes", "storage_total_bytes"):
        columns.append(column)
        values.append(_VALUES[column])
    columns += ["uptime_s_min", "throttled_ratio"]
    values += [_VALUES["uptime_s"], "CASE WHEN can_throttle THEN 0.0 END"]
    return columns, values


def _note_unmade(engine: Engine, scale: Scale, end_ts: int) -> None:
    """Note the buckets of samples that are there and not yet made, as who wrote them does."""
    if not scale.fine_days:
        return
    rows = [
        {"rollup": rollup.table.name, "ts": ts}
        for rollup in (FINE, COARSE)
        for ts in range(_made_until(rollup, end_ts), end_ts, rollup.bucket_s)
    ]
    with engine.begin() as connection:
        connection.execute(insert(rollup_notes), rows)
