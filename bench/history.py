"""Figure 8: a fleet's history: how quick its panels are, how long a sweep takes to store meanwhile, how large it is."""

from __future__ import annotations

import logging
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection, Engine, text

from bench.history_data import DAY_S, Scale, fill
from bench.panels import Panel, as_sent, panels
from bench.peers import histories
from bench.stage import Stage
from bench.table import Section, below
from evc.errors import DatabaseAway
from evc.store.database import open_engine, upgrade
from evc.store.partitions import are_in, make_ahead
from evc.store.retention import size
from evc.store.rollups import COARSE, FINE, Rollup, next_step
from evc.store.writer import write
from tests.servers.postgres import running_postgres
from tests.store.batches import sweep_batch

log = logging.getLogger(__name__)
BACKENDS = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}
FULL = {"postgresql": Scale(1000, 7, 1, 30, 365), "sqlite": Scale(100, 7, 1, 90, 365)}
QUICK = {"postgresql": Scale(30, 1, 1, 2, 5), "sqlite": Scale(10, 1, 1, 2, 5)}
RANGES_S = {"1 h": 3600, "6 h": 6 * 3600, "24 h": DAY_S, "7 d": 7 * DAY_S, "90 d": 90 * DAY_S}
SERVER = {
    "shared_buffers": "2GB", "max_wal_size": "8GB", "work_mem": "16MB", "fsync": "on", "synchronous_commit": "on",
    "full_page_writes": "on", "checkpoint_timeout": "15min", "maintenance_work_mem": "512MB",
}  # fmt: skip
"""A small server's settings, safe against a power cut; the rest is PostgreSQL's default."""
_PANEL_GOAL_MS = 200
_SWEEP_GOAL_S = 1
_TIMEOUT_S = 10
_ROUNDS = 5
_SWEEPS = 40
_WORST = 8
_ROWS_OF_A_DAY = {
    "node_samples": 2880, "temperature_samples": 3 * 2880, "network_samples": 2 * 2880, "storage_samples": 288,
    "node_samples_5m": 288, "node_samples_1h": 24,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Timed:
    """How long a panel took, each time, milliseconds."""

    panel: Panel
    range_name: str
    times_ms: list[float]

    @property
    def p95_ms(self) -> float:
        return _p95(self.times_ms)


def measure(stage: Stage) -> Section:
    """Fill both databases, measure panels, sweeps, rollups and sizes; then the same series in other stores."""
    section = Section("8. History")
    with running_postgres(SERVER) as server:
        for backend, name in BACKENDS.items():
            scale = (QUICK if stage.quick else FULL)[backend]
            folder = stage.new_folder()
            folder.mkdir()
            with server.database() as database:
                url = server.url(database) if backend == "postgresql" else f"sqlite:///{folder}/metrics.db"
                _one(section, f"{name}, {scale.nodes:,} nodes", url, scale)
        histories.measure(section, server, stage.new_folder(), 5 if stage.quick else 50)
    section.remarks += _remarks(FULL["postgresql"])
    return section


def _remarks(scale: Scale) -> list[str]:
    return [
        f"{scale.samples_days} days of samples at 30 s, {scale.details_days} of details,"
        f" {scale.fine_days} of five-minute and {scale.coarse_days} of hourly rollups",
        f"panels: every query of every dashboard, ranges {', '.join(RANGES_S)}, {_ROUNDS} times each after one more"
        " that is not counted, another node each time; caches as they come",
        "PostgreSQL with fsync, " + ", ".join(f"{key} {SERVER[key]}" for key in ("shared_buffers", "work_mem")),
    ]


def _one(section: Section, name: str, url: str, scale: Scale) -> None:
    engine = open_engine(url)
    try:
        upgrade(engine)
        end_ts = int(time.time()) // 3600 * 3600
        begun = time.monotonic()
        fill(url, scale, end_ts)
        section.add(f"{name}: the database", size(engine).bytes / 1e9, "GB")
        section.remarks.append(f"{name}: made in {time.monotonic() - begun:.0f} s")
        _sizes(section, engine, scale)
        _panels(section, engine, scale, end_ts)
        _meanwhile(section, engine, scale, end_ts)
    finally:
        engine.dispose()


# -- size --------------------------------------------------------------------------------------------------------------


def _sizes(section: Section, engine: Engine, scale: Scale) -> None:
    of_table = size(engine).tables if are_in(engine) else _sqlite_sizes(engine)
    days = {
        "node_samples": scale.samples_days,
        "node_samples_5m": scale.fine_days,
        "node_samples_1h": scale.coarse_days,
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


# -- panels ------------------------------------------------------------------------------------------------------------


def _panels(section: Section, engine: Engine, scale: Scale, end_ts: int) -> None:
    found = panels(engine.dialect.name)
    if not found:
        section.remarks.append("no dashboards in this project: no panel was measured")
        return
    timed: list[Timed] = []
    with _reader(engine) as connection:
        for range_name, range_s in RANGES_S.items():
            timed += [
                Timed(panel, range_name, _time_panel(connection, panel, scale, end_ts, range_s)) for panel in found
            ]
    for range_name in RANGES_S:
        those = [each for each in timed if each.range_name == range_name]
        p95_ms = _p95([ms for each in those for ms in each.times_ms])
        section.add(
            f"  {len(those)} panels, {range_name}: p95 of all", p95_ms, "ms", goal=below(_PANEL_GOAL_MS, p95_ms)
        )
    slow = sorted((each for each in timed if each.p95_ms >= _PANEL_GOAL_MS), key=lambda each: -each.p95_ms)
    section.add(
        f"  of {len(timed)} panels and ranges, p95 not below {_PANEL_GOAL_MS} ms",
        len(slow),
        "",
        goal=below(1, len(slow)),
    )
    for each in slow[:_WORST]:
        section.add(f"    {each.panel.dashboard}: {each.panel.title}, {each.range_name}", each.p95_ms, "ms")


def _time_panel(connection: Connection, panel: Panel, scale: Scale, end_ts: int, range_s: int) -> list[float]:
    draw = random.Random(panel.title)
    times_ms = []
    for _ in range(_ROUNDS + 1):
        node = f"node-{draw.randint(1, scale.nodes)}" if panel.dashboard == "evc-node" else "*"
        variables = {"node": node, "interval": "0"}
        sql = as_sent(panel, end_ts - range_s, end_ts, variables).replace("%", "%%")
        times_ms.append(_milliseconds(partial(_query, connection, sql)))
        if times_ms[-1] > _TIMEOUT_S * 100:
            break  # a tenth of the time-out: it is known to be slow
    return times_ms[1:] or times_ms


def _query(connection: Connection, sql: str) -> None:
    try:
        connection.exec_driver_sql(sql).all()
    except DatabaseAway:
        log.info("given up after %d s: %s", _TIMEOUT_S, sql)
    finally:
        connection.rollback()


@contextmanager
def _reader(engine: Engine) -> Iterator[Connection]:
    """A connection that gives a query up after some time."""
    with engine.connect() as connection:
        if are_in(engine):
            connection.execute(text(f"SET statement_timeout = '{_TIMEOUT_S}s'"))
            connection.commit()
        yield connection


def _milliseconds(what: Callable[[], object]) -> float:
    begun = time.perf_counter()
    what()
    return (time.perf_counter() - begun) * 1000


def _p95(values: list[float]) -> float:
    if len(values) == 1:  # a statement so slow that it was asked once
        return values[0]
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


# -- sweeps and rollups meanwhile --------------------------------------------------------------------------------------


def _meanwhile(section: Section, engine: Engine, scale: Scale, end_ts: int) -> None:
    """Store sweeps, one a second, while the panels are asked for without a pause and what came is rolled up."""
    if are_in(engine):
        make_ahead(engine, end_ts)
    stop = threading.Event()
    steps_s: dict[Rollup, list[float]] = {FINE: [], COARSE: []}
    now_ts = end_ts + _SWEEPS * 30 + 7200
    others = [
        threading.Thread(target=_ask, args=(engine, scale, end_ts, stop)),
        threading.Thread(target=_roll_up, args=(engine, now_ts, steps_s, stop)),
    ]
    for other in others:
        other.start()
    ids = list(range(1, scale.nodes + 1))
    times_s = []
    for sweep in range(_SWEEPS):
        batch = sweep_batch(ids, end_ts + 30 * sweep)
        times_s.append(_milliseconds(partial(write, engine, batch)) / 1000)
        time.sleep(max(0.0, 1 - times_s[-1]))
    stop.set()
    for other in others:
        other.join()
    section.add("  storing a sweep meanwhile, p95", _p95(times_s), "s", goal=below(_SWEEP_GOAL_S, _p95(times_s)))
    section.add("    the slowest", max(times_s), "s", goal=below(_SWEEP_GOAL_S, max(times_s)))
    for rollup, times in steps_s.items():
        if times:
            section.add(
                f"  a step of {rollup.table.name} meanwhile, p95", _p95(times) if len(times) > 1 else times[0], "s"
            )


def _ask(engine: Engine, scale: Scale, end_ts: int, stop: threading.Event) -> None:
    found = panels(engine.dialect.name)
    draw = random.Random(1)
    with _reader(engine) as connection:
        while not stop.is_set():
            if not found:
                connection.execute(
                    text("SELECT avg(cpu_usage_ratio) FROM node_samples WHERE ts > :ts"), {"ts": end_ts - DAY_S}
                )
                continue
            panel = draw.choice(found)
            node = f"node-{draw.randint(1, scale.nodes)}" if panel.dashboard == "evc-node" else "*"
            sql = as_sent(panel, end_ts - 6 * 3600, end_ts, {"node": node, "interval": "0"})
            _query(connection, sql.replace("%", "%%"))


def _roll_up(engine: Engine, now_ts: int, steps_s: dict[Rollup, list[float]], stop: threading.Event) -> None:
    while not stop.wait(2):
        for rollup, times in steps_s.items():
            begun = time.perf_counter()
            if next_step(engine, rollup, now_ts) is not None:
                times.append(time.perf_counter() - begun)
