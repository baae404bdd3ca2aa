"""Figure 9: a month of result lines: how quick the boards of results are, what rollups cost, how large all of it is."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, text

from bench.history import SERVER
from bench.panels import Panel, as_sent, panels
from bench.results_data import DAY_S, Scale, fill
from bench.stage import Stage
from bench.table import Section, below
from evc.errors import DatabaseAway
from evc.store.database import open_engine, upgrade
from evc.store.result_rollups import next_hour
from evc.store.retention import size
from tests.servers.postgres import running_postgres

BOARDS = ("evc-inference", "evc-reid", "evc-smart-farm")
FULL, QUICK = Scale(100, 30), Scale(6, 3)
RANGES_DAYS = (1, 4, 7, 30)
_TABLES = ("inference_results", "inference_runs_5m", "inference_runs_1h", "inference_results_1h", "identity_visits")
_GOAL_MS = 200
_TIMEOUT_S = 20
_ROUNDS = 10
_WORST = 6


def measure(stage: Stage) -> Section:
    """Fill a database, roll it up, ask what the boards ask."""
    scale = QUICK if stage.quick else FULL
    end_ts = int(time.time()) // 3600 * 3600
    section = Section(f"9. Results: PostgreSQL, {scale.nodes} containers, {scale.days} days, a line in 50 s each")
    with running_postgres(SERVER) as server, server.database() as database:
        engine = open_engine(server.url(database))
        try:
            upgrade(engine)
            fill(engine, scale, end_ts)
            _rollups(section, engine, end_ts)
            _sizes(section, engine)
            _panels(section, engine, scale, end_ts)
        finally:
            engine.dispose()
    section.remarks.append(
        f"Every query of {', '.join(BOARDS)}, {_ROUNDS} times each after one that is not counted, all nodes chosen"
    )
    return section


def _rollups(section: Section, engine: Engine, end_ts: int) -> None:
    times_s, begun = [], time.perf_counter()
    while next_hour(engine, end_ts + 7200) is not None:
        times_s.append(time.perf_counter() - begun)
        begun = time.perf_counter()
    section.add("an hour rolled up, median", statistics.median(times_s) * 1000, "ms")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM (ANALYZE)"))


def _sizes(section: Section, engine: Engine) -> None:
    with engine.connect() as connection:
        lines = connection.scalar(text("SELECT count(*) FROM inference_results"))
    section.add("lines", float(lines or 0), "")
    by_table = size(engine).tables
    for name in _TABLES:
        section.add(f"  {name}, indexes included", by_table[name] / 1e6, "MB")


def _panels(section: Section, engine: Engine, scale: Scale, end_ts: int) -> None:
    found = [panel for panel in panels("postgresql") if panel.dashboard in BOARDS]
    slow: list[tuple[float, str]] = []
    with _reader(engine) as connection:
        for days in (days for days in RANGES_DAYS if days <= scale.days):
            timed = [(_time(connection, panel, end_ts, days), panel) for panel in found]
            p95_ms = _p95([value for values, _ in timed for value in values])
            section.add(f"{len(found)} queries, {days} d: p95 of all", p95_ms, "ms", goal=below(_GOAL_MS, p95_ms))
            slow += [(_p95(values), f"{panel.dashboard}: {panel.title}, {days} d") for values, panel in timed]
    slow.sort(reverse=True)
    over = sum(p95_ms >= _GOAL_MS for p95_ms, _ in slow)
    section.add(f"of {len(slow)} queries and ranges, p95 not below {_GOAL_MS} ms", over, "", goal=below(1, over))
    for p95_ms, name in slow[: max(over, _WORST)]:
        section.add(f"  {name}", p95_ms, "ms")


def _time(connection: Connection, panel: Panel, end_ts: int, days: int) -> list[float]:
    draw = random.Random(panel.title)
    times_ms = []
    for _ in range(_ROUNDS + 1):
        chosen = {"interval": "0", "index": "exg", "gallery": "reid", "identity": str(draw.randint(1, 5000))}
        sql = as_sent(panel, end_ts - days * DAY_S, end_ts, chosen).replace("%", "%%")
        begun = time.perf_counter()
        try:
            connection.exec_driver_sql(sql).all()
        except DatabaseAway:
            return [_TIMEOUT_S * 1000.0]
        finally:
            connection.rollback()
        times_ms.append((time.perf_counter() - begun) * 1000)
    return times_ms[1:]


@contextmanager
def _reader(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        connection.execute(text(f"SET statement_timeout = '{_TIMEOUT_S}s'"))
        connection.commit()
        yield connection


def _p95(values: list[float]) -> float:
    return values[0] if len(values) == 1 else statistics.quantiles(values, n=20, method="inclusive")[-1]
