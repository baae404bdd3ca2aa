"""Figure 8: a fleet's history: how quick its panels are, how long a sweep takes to store meanwhile, how large it is."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

from sqlalchemy import Engine, text

from bench import panel_times
from bench.child import BenchError
from bench.history_data import Scale, fill
from bench.panel_times import ROUNDS, ask_until, milliseconds, p95
from bench.peers import histories
from bench.stage import Stage
from bench.table import Section, below
from evc.store.database import open_engine, upgrade
from evc.store.partitions import are_in, make_ahead
from evc.store.retention import size
from evc.store.rollups import COARSE, FINE, ROLLUPS, Rollup, next_step
from evc.store.writer import write
from tests.servers.postgres import PostgresServer, running_postgres
from tests.store.batches import sweep_batch

BACKENDS = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}
FULL = {"postgresql": Scale(1000, 7, 7, 30, 365), "sqlite": Scale(100, 7, 7, 90, 365)}
QUICK = {"postgresql": Scale(30, 1, 1, 2, 5), "sqlite": Scale(10, 1, 1, 2, 5)}
SERVER = {
    "shared_buffers": "2GB", "max_wal_size": "8GB", "work_mem": "16MB", "fsync": "on", "synchronous_commit": "on",
    "full_page_writes": "on", "checkpoint_timeout": "15min", "maintenance_work_mem": "512MB",
}  # fmt: skip
"""A small server's settings, safe against a power cut; the rest is PostgreSQL's default."""
_SWEEP_GOAL_S = 1
_SWEEPS = 40
_KEPT_DATABASE = "history"
_ROWS_OF_A_DAY = {
    "node_samples": 2880, "temperature_samples": 3 * 2880, "network_samples": 2 * 2880, "storage_samples": 288,
    "node_samples_5m": 288, "node_samples_1h": 24, "node_samples_6h": 4, "node_samples_1d": 1,
}  # fmt: skip


def measure(stage: Stage) -> Section:
    """Fill both databases, measure panels, sweeps, rollups and sizes; then the same series in other stores."""
    section = Section("8. History")
    kept = stage.kept
    with running_postgres(SERVER, kept and kept / "postgresql") as server:
        for backend, name in BACKENDS.items():
            scale = (QUICK if stage.quick else FULL)[backend]
            with _database(stage, server, backend) as url:
                _one(section, f"{name}, {scale.nodes:,} nodes", url, scale, kept and kept / f"{backend}.json")
        histories.measure(section, server, stage.new_folder(), 5 if stage.quick else 50)
    section.remarks += _remarks(FULL["postgresql"])
    return section


@contextmanager
def _database(stage: Stage, server: PostgresServer, backend: str) -> Iterator[str]:
    """Yield the URL of a database: a new one, or the one that is kept."""
    folder = stage.kept or stage.new_folder()
    folder.mkdir(parents=True, exist_ok=True)
    if backend == "sqlite":
        yield f"sqlite:///{folder}/metrics.db"
    elif stage.kept:
        if not (folder / f"{backend}.json").exists():
            server.create(_KEPT_DATABASE)
        yield server.url(_KEPT_DATABASE)
    else:
        with server.database() as database:
            yield server.url(database)


def _remarks(scale: Scale) -> list[str]:
    return [
        f"{scale.samples_days} days of samples at 30 s, {scale.details_days} of details,"
        f" {scale.fine_days} of five-minute rollups, {scale.coarse_days} of longer ones; no results of models",
        f"queries: of every panel, variable, annotation and alert rule, {ROUNDS} times each after one more that is not"
        " counted, the whole fleet or another node each time; caches as they come",
        "PostgreSQL with fsync, jit off, "
        + ", ".join(f"{key} {SERVER[key]}" for key in ("shared_buffers", "work_mem")),
    ]


def _one(section: Section, name: str, url: str, scale: Scale, told: Path | None) -> None:
    engine = open_engine(url)
    try:
        upgrade(engine)
        begun = time.monotonic()
        end_ts = _filled(url, scale, told)
        section.add(f"{name}: the database", size(engine).bytes / 1e9, "GB")
        section.remarks.append(f"{name}: made, or found, in {time.monotonic() - begun:.0f} s")
        _sizes(section, engine, scale)
        panel_times.measure(section, engine, scale.nodes, end_ts)
        _meanwhile(section, engine, scale, end_ts)
    finally:
        engine.dispose()


def _filled(url: str, scale: Scale, told: Path | None) -> int:
    """Fill a database, unless ``told`` says that this was done; returns the end of its history.

    :raises BenchError: what is kept is of another scale
    """
    if told and told.exists():
        kept = json.loads(told.read_text())
        if kept["scale"] != asdict(scale):
            raise BenchError(f"{told}: holds another history: {kept['scale']}")
        return int(kept["end_ts"])
    end_ts = int(time.time()) // 3600 * 3600
    fill(url, scale, end_ts)
    if told:
        told.write_text(json.dumps({"scale": asdict(scale), "end_ts": end_ts}))
    return end_ts


# -- size --------------------------------------------------------------------------------------------------------------


def _sizes(section: Section, engine: Engine, scale: Scale) -> None:
    of_table = size(engine).tables if are_in(engine) else _sqlite_sizes(engine)
    days = {
        "node_samples": scale.samples_days,
        "node_samples_5m": scale.fine_days,
        **{rollup.table.name: scale.coarse_days for rollup in ROLLUPS if rollup is not FINE},
    }
    by_table = {
        table: of_table[table] / scale.nodes / days.get(table, scale.details_days) / 1000 for table in _ROWS_OF_A_DAY
    }
    section.add("  a day of a node, all tables", sum(by_table.values()), "kB")
    for table, kilobytes in by_table.items():
        row_bytes = kilobytes * 1000 / _ROWS_OF_A_DAY[table]
        section.add(
            f"    {table}, {_ROWS_OF_A_DAY[table]:,} rows of {row_bytes:.0f} bytes, indexes included", kilobytes, "kB"
        )


def _sqlite_sizes(engine: Engine) -> dict[str, int]:
    """Return bytes by table, indexes included."""
    query = "SELECT tbl_name, sum(pgsize) FROM dbstat JOIN sqlite_master ON sqlite_master.name = dbstat.name GROUP BY 1"
    with engine.connect() as connection:
        return {name: int(bytes_) for name, bytes_ in connection.execute(text(query))}


# -- sweeps and rollups meanwhile --------------------------------------------------------------------------------------


def _meanwhile(section: Section, engine: Engine, scale: Scale, end_ts: int) -> None:
    """Store sweeps, one a second, while the panels are asked for without a pause and what came is rolled up."""
    if are_in(engine):
        make_ahead(engine, end_ts)
    begin_ts = _newest(engine) + 30  # what is kept has some of these already
    stop = threading.Event()
    steps_s: dict[Rollup, list[float]] = {FINE: [], COARSE: []}
    now_ts = begin_ts + _SWEEPS * 30 + 7200
    others = [
        threading.Thread(target=ask_until, args=(engine, scale.nodes, end_ts, stop)),
        threading.Thread(target=_roll_up, args=(engine, now_ts, steps_s, stop)),
    ]
    for other in others:
        other.start()
    ids = list(range(1, scale.nodes + 1))
    times_s = []
    for sweep in range(_SWEEPS):
        batch = sweep_batch(ids, begin_ts + 30 * sweep)
        times_s.append(milliseconds(partial(write, engine, batch)) / 1000)
        time.sleep(max(0.0, 1 - times_s[-1]))
    stop.set()
    for other in others:
        other.join()
    section.add("  storing a sweep meanwhile, p95", p95(times_s), "s", goal=below(_SWEEP_GOAL_S, p95(times_s)))
    section.add("    the slowest", max(times_s), "s", goal=below(_SWEEP_GOAL_S, max(times_s)))
    for rollup, times in steps_s.items():
        if times:
            section.add(
                f"  a step of {rollup.table.name} meanwhile, p95", p95(times) if len(times) > 1 else times[0], "s"
            )


def _newest(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT max(ts) FROM node_samples")).scalar_one())


def _roll_up(engine: Engine, now_ts: int, steps_s: dict[Rollup, list[float]], stop: threading.Event) -> None:
    while not stop.wait(2):
        for rollup, times in steps_s.items():
            begun = time.perf_counter()
            if next_step(engine, rollup, now_ts) is not None:
                times.append(time.perf_counter() - begun)
