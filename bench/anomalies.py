"""How many faults are noticed, how many alarms are false, and how fast: over drawn load with faults that are known."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from sqlalchemy import insert

from bench import labelled_series
from bench.child import BenchError
from bench.faulty_load import HOUR, KINDS, LENGTH, PLACE, WEEK, Fault, Load, draw_load
from bench.stage import Stage
from bench.table import Section, below
from evc.anomalies.judge import Group, Watch, judge
from evc.anomalies.watched import WATCHED, Watched
from evc.anomalies.windows import (
    BUCKET_S,
    DAY_POINTS,
    DAY_S,
    DAYS,
    RECENT,
    WEEK_POINTS,
    WEEKS,
    day_times,
    recent_times,
    week_times,
)
from evc.fleet.nodes import Node
from evc.store.anomalies import read_watch, record_findings
from evc.store.database import embedded_url, open_engine, upgrade
from evc.store.nodes import store_node
from evc.store.tables import ROLLED_UP, ROLLED_UP_TOTALS, node_samples_5m

DAY = DAY_S // BUCKET_S
GRACE = 2 * HOUR
"""What begins so long after a fault's end is still of it: temperatures and disks come back slowly."""
STEP = 2
"""Buckets between two runs: maintain_metrics runs every ten minutes."""
THRESHOLDS = {"cpu": 0.9, "memory": 0.9, "storage": 0.9, "temperature": 75.0, "answer time": 2.0}
"""The peer: what fleets are watched with otherwise. Each has to last as long as an anomaly has to."""

_NOW = 1_790_000_100 // BUCKET_S * BUCKET_S

Alarm = tuple[int, int, str]
"""Node, bucket, quantity."""


def watch_at(load: Load, now: int, groups: list[Group], is_open: np.ndarray) -> Watch:
    """Return what is known at bucket ``now``, as the store reads it."""
    weeks = np.array([[now - WEEK * week + point for point in WEEK_POINTS] for week in WEEKS])
    days = np.array([[now - DAY * day + point for point in DAY_POINTS] for day in DAYS])
    recent = load.values[:, :, now - RECENT + 1 : now + 1]
    return Watch(recent, load.values[:, :, weeks], load.values[:, :, days], groups, is_open)


def _ours(load: Load, begin: int = LENGTH - WEEK, watched: Sequence[Watched] = WATCHED) -> Iterator[Alarm]:
    groups = [Group(f"group-{number}", members) for number, members in enumerate(load.groups)]
    places = {quantity.name: place for place, quantity in enumerate(watched)}
    is_open = np.zeros((len(load.values), len(watched)), bool)
    for now in range(begin, load.values.shape[2], STEP):
        for finding in judge(watch_at(load, now, groups, is_open), watched):
            is_open[finding.node, places[finding.what]] = finding.begins
            if finding.begins:
                yield finding.node, now, finding.what


def _thresholds(load: Load) -> Iterator[Alarm]:
    for name, limit in THRESHOLDS.items():
        yield from _beyond(load, PLACE[name], WATCHED[PLACE[name]], limit, LENGTH - WEEK)


def _beyond(load: Load, place: int, quantity: Watched, limit: float, begin: int) -> Iterator[Alarm]:
    is_open = np.zeros(len(load.values), bool)
    for now in range(begin, load.values.shape[2], STEP):
        recent = load.values[:, place, now - quantity.lasting + 1 : now + 1]
        beyond = (recent >= limit).all(axis=1)
        for node in np.flatnonzero(beyond & ~is_open):
            yield int(node), now, quantity.name
        is_open = beyond | (is_open & ~(recent < limit).all(axis=1))


@dataclass(slots=True)
class Verdict:
    """What became of alarms. :param delays: buckets from a fault's begin to its first alarm, by kind"""

    right: int = 0
    wrong: list[Alarm] = field(default_factory=list)
    delays: dict[str, list[int]] = field(default_factory=dict)

    @property
    def precision(self) -> float:
        """Share of the alarms that are of a fault."""
        return self.right / max(self.right + len(self.wrong), 1)


def verdict(load: Load, alarms: list[Alarm]) -> Verdict:
    """Compare alarms with the faults that there were."""
    said, seen = Verdict(delays={fault.kind: [] for fault in load.faults}), set()
    by_node: dict[int, list[Fault]] = {}
    for fault in load.faults:
        by_node.setdefault(fault.node, []).append(fault)
    for node, bucket, what in sorted(alarms, key=lambda alarm: alarm[1]):
        of = next((it for it in by_node.get(node, ()) if it.begin <= bucket < it.end + GRACE), None)
        if of is None:
            said.wrong.append((node, bucket, what))
            continue
        said.right += 1
        if of not in seen:
            seen.add(of)
            said.delays[of.kind].append(bucket - of.begin)
    return said


def _run_s(folder: Path, nodes: int) -> float:
    """Return seconds of one run over an SQLite database: read, judge, store."""
    folder.mkdir()
    engine = open_engine(embedded_url(folder))
    upgrade(engine)
    windows = [recent_times(_NOW), *week_times(_NOW), *day_times(_NOW)]
    random = np.random.default_rng(0)
    with engine.begin() as connection:
        for node in range(nodes):
            store_node(connection, Node(name=f"edge-{node}", host="192.0.2.1", port=1 + node), _NOW)
        for ts in sorted({ts for window in windows for ts in window}):
            connection.execute(insert(node_samples_5m), [_bucket(random, ts, node) for node in range(1, nodes + 1)])
    begun = time.perf_counter()
    with engine.begin() as connection:
        watched = read_watch(connection, _NOW)
        record_findings(connection, watched, judge(watched.watch), _NOW)
    seconds = time.perf_counter() - begun
    engine.dispose()
    return seconds


def _bucket(random: np.random.Generator, ts: int, node: int) -> dict[str, float]:
    values = dict(zip(ROLLED_UP, random.uniform(0.4, 0.6, len(ROLLED_UP)), strict=True))
    means = {f"{name}_avg": float(value) for name, value in values.items()}
    return {"ts": ts, "node_id": node, "samples": 10, "up_ratio": 1.0, **dict.fromkeys(ROLLED_UP_TOTALS, 1), **means}


def measure(stage: Stage) -> Section:
    """Measure."""
    nodes, each = (40, 2) if stage.quick else (200, 12)
    load = draw_load(nodes, 20, each, seed=2026)  # not the one by which the limits were chosen
    section = Section(f"Anomalies: {nodes} nodes, a week, {5 * each} faults")
    for name, method in (("EVC", _ours), ("thresholds", _thresholds)):
        said = verdict(load, list(method(load)))
        _add(section, name, load, said)
        _add_kinds(section, name, said, len(load.faults) // len(KINDS))
    many = 100 if stage.quick else 1000
    seconds = _run_s(stage.new_folder(), many)
    section.add(f"EVC: a run for {many:,} nodes, SQLite", seconds, "s", goal=below(5, seconds, "s"))
    section.remarks.append("The load is drawn, its faults are known; thresholds: cpu, memory, storage 0.9, 75 °C, 2 s.")
    try:
        _add_labelled(section)
    except BenchError as error:
        section.remarks.append(str(error))
    return section


def _add(section: Section, name: str, load: Load, said: Verdict) -> None:
    section.add(f"{name}: precision", said.precision, "ratio")
    section.add(f"{name}: recall", sum(map(len, said.delays.values())) / max(len(load.faults), 1), "ratio")
    section.add(f"{name}: false alarms", len(said.wrong) / len(load.values), "a node and week")


def _add_kinds(section: Section, name: str, said: Verdict, each: int) -> None:
    for kind, delays in said.delays.items():
        section.add(f"{name}: {kind}, noticed of {each}", len(delays), "")
        if delays:
            section.add(f"{name}: {kind}, after", float(np.median(delays)) * BUCKET_S / 60, "min")


def _add_labelled(section: Section) -> None:
    """Add what becomes of a public series that was labelled by others."""
    load = labelled_series.read_series()
    quantity, begin = labelled_series.watched(load), labelled_series.BEGIN
    methods = {
        "EVC": _ours(load, begin, [quantity]),
        "threshold": _beyond(load, 0, quantity, labelled_series.limit(load), begin),
    }
    for name, alarms in methods.items():
        said = verdict(load, list(alarms))
        section.add(f"{name}, public series: alarms", said.right + len(said.wrong), "")
        section.add(f"{name}, public series: precision", said.precision, "ratio")
        noticed = sum(map(len, said.delays.values()))
        section.add(f"{name}, public series: noticed of {len(load.faults)}", noticed, "")
    days = labelled_series.days_judged(load)
    section.remarks.append(
        f"Public series: streamad's (Apache-2.0), of what it does not say; the last {days:.0f} days of 42 are judged, "
        "hours held for twelve buckets; threshold: the greatest value of the days before."
    )
