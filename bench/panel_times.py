"""How long each query of the dashboards and of the alert rules takes, over short and long ranges."""

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

from bench.history_data import DAY_S
from bench.panels import Panel, alerts, as_sent, panels
from bench.table import Section, below
from evc.errors import DatabaseAway
from evc.store.partitions import are_in

log = logging.getLogger(__name__)
RANGES_S = {
    "1 h": 3600, "6 h": 6 * 3600, "12 h": 12 * 3600, "24 h": DAY_S, "7 d": 7 * DAY_S, "30 d": 30 * DAY_S,
    "90 d": 90 * DAY_S, "1 year": 365 * DAY_S,
}  # fmt: skip
ROUNDS = 5
_GOAL_MS = 200
_TIMEOUT_S = 10
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Timed:
    """How long a panel took, each time, milliseconds."""

    panel: Panel
    range_name: str
    times_ms: list[float]

    @property
    def p95_ms(self) -> float:
        """What 95 % of the times are below."""
        return p95(self.times_ms)


def measure(section: Section, engine: Engine, nodes: int, end_ts: int) -> None:
    """Ask every query, one after the other."""
    asked = panels(engine.dialect.name)
    with _reader(engine) as connection:
        time_all = partial(_time_all, connection, nodes, end_ts)
        timed = {name: time_all(asked, name, range_s) for name, range_s in RANGES_S.items()}
        timed["alert rules"] = time_all(alerts(engine.dialect.name), "alert rules", 0)
    for name, those in timed.items():
        all_ms = p95([ms for each in those for ms in each.times_ms])
        section.add(f"  {len(those)} queries, {name}: p95 of all", all_ms, "ms", goal=below(_GOAL_MS, all_ms))
    _add_slowest(section, [each for those in timed.values() for each in those])


def _add_slowest(section: Section, timed: list[Timed]) -> None:
    timed = sorted(timed, key=lambda each: -each.p95_ms)
    slow = sum(each.p95_ms >= _GOAL_MS for each in timed)
    what = f"  of {len(timed)} queries and ranges, p95 not below {_GOAL_MS} ms"
    section.add(what, slow, "", goal=below(1, slow))
    for each in timed[: max(3, min(slow, _SHOWN))]:
        section.add(f"    {each.panel.dashboard}: {each.panel.title}, {each.range_name}", each.p95_ms, "ms")


def _time_all(
    connection: Connection, nodes: int, end_ts: int, asked: list[Panel], range_name: str, range_s: int
) -> list[Timed]:
    return [Timed(panel, range_name, _time(connection, panel, nodes, end_ts, range_s)) for panel in asked]


def _time(connection: Connection, panel: Panel, nodes: int, end_ts: int, range_s: int) -> list[float]:
    draw = random.Random(panel.title)
    times_ms = []
    for _ in range(ROUNDS + 1):
        times_ms.append(milliseconds(partial(_query, connection, _sql(panel, draw, nodes, end_ts, range_s))))
        if times_ms[-1] > _TIMEOUT_S * 100:
            break  # a tenth of the time-out: it is known to be slow
    return times_ms[1:] or times_ms


def _sql(panel: Panel, draw: random.Random, nodes: int, end_ts: int, range_s: int) -> str:
    """Return what Grafana sends: of the whole fleet, or of any node where the dashboard shows one."""
    node = f"node-{draw.randint(1, nodes)}" if panel.dashboard == "evc-node" else "*"
    begin_ts = end_ts - (panel.range_s or range_s)
    return as_sent(panel, begin_ts, end_ts, {"node": node, "interval": "0"}).replace("%", "%%")


def _query(connection: Connection, sql: str) -> None:
    try:
        connection.exec_driver_sql(sql).all()
    except DatabaseAway:
        log.info("given up after %d s: %s", _TIMEOUT_S, sql)
    finally:
        connection.rollback()


def ask_until(engine: Engine, nodes: int, end_ts: int, stop: threading.Event) -> None:
    """Ask for any panel over any range, without a pause."""
    asked = panels(engine.dialect.name)
    draw = random.Random(1)
    with _reader(engine) as connection:
        while not stop.is_set():
            range_s = draw.choice(list(RANGES_S.values()))
            _query(connection, _sql(draw.choice(asked), draw, nodes, end_ts, range_s))


@contextmanager
def _reader(engine: Engine) -> Iterator[Connection]:
    """A connection that gives a query up after some time."""
    with engine.connect() as connection:
        if are_in(engine):
            connection.execute(text(f"SET statement_timeout = '{_TIMEOUT_S}s'"))
            connection.commit()
        yield connection


def milliseconds(what: Callable[[], object]) -> float:
    """Return how long it takes."""
    begun = time.perf_counter()
    what()
    return (time.perf_counter() - begun) * 1000


def p95(values: list[float]) -> float:
    """Return what 95 % of the values are below."""
    if len(values) == 1:  # a statement so slow that it was asked once
        return values[0]
    return statistics.quantiles(values, n=20, method="inclusive")[-1]
