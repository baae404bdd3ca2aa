"""How many faults are noticed, how many alarms are false, and how fast: over drawn load with faults that are known."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from bench.faulty_load import HOUR, KINDS, LENGTH, PLACE, WEEK, Fault, Load, draw_load
from bench.stage import Stage
from bench.table import Section, below
from evc.anomalies.judge import Group, Watch, judge
from evc.anomalies.watched import WATCHED
from evc.anomalies.windows import BUCKET_S, DAY_POINTS, DAY_S, DAYS, RECENT, WEEK_POINTS, WEEKS

DAY = DAY_S // BUCKET_S
GRACE = 2 * HOUR
"""What begins so long after a fault's end is still of it: temperatures and disks come back slowly."""
STEP = 2
"""Buckets between two runs: maintain_metrics runs every ten minutes."""
THRESHOLDS = {"cpu": 0.9, "memory": 0.9, "storage": 0.9, "temperature": 75.0, "answer time": 2.0}
"""The peer: what fleets are watched with otherwise. Each has to last as long as an anomaly has to."""

Alarm = tuple[int, int, str]
"""Node, bucket, quantity."""


def watch_at(load: Load, now: int, groups: list[Group], is_open: np.ndarray) -> Watch:
    """Return what is known at bucket ``now``, as the store reads it."""
    weeks = np.array([[now - WEEK * week + point for point in WEEK_POINTS] for week in WEEKS])
    days = np.array([[now - DAY * day + point for point in DAY_POINTS] for day in DAYS])
    recent = load.values[:, :, now - RECENT + 1 : now + 1]
    return Watch(recent, load.values[:, :, weeks], load.values[:, :, days], groups, is_open)


def _ours(load: Load) -> Iterator[Alarm]:
    groups = [Group(f"group-{number}", members) for number, members in enumerate(load.groups)]
    is_open = np.zeros((len(load.values), len(WATCHED)), bool)
    for now in range(LENGTH - WEEK, LENGTH, STEP):
        for finding in judge(watch_at(load, now, groups, is_open)):
            is_open[finding.node, PLACE[finding.what]] = finding.begins
            if finding.begins:
                yield finding.node, now, finding.what


def _thresholds(load: Load) -> Iterator[Alarm]:
    is_open = np.zeros((len(load.values), len(WATCHED)), bool)
    for now in range(LENGTH - WEEK, LENGTH, STEP):
        for name, limit in THRESHOLDS.items():
            lasting = WATCHED[PLACE[name]].lasting
            recent = load.values[:, PLACE[name], now - lasting + 1 : now + 1]
            beyond = (recent >= limit).all(axis=1)
            for node in np.flatnonzero(beyond & ~is_open[:, PLACE[name]]):
                yield int(node), now, name
            is_open[:, PLACE[name]] = beyond | (is_open[:, PLACE[name]] & ~(recent < limit).all(axis=1))


@dataclass(slots=True)
class Verdict:
    """What became of alarms. :param delays: buckets from a fault's begin to its first alarm, by kind"""

    right: int = 0
    wrong: list[Alarm] = field(default_factory=list)
    delays: dict[str, list[int]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    @property
    def precision(self) -> float:
        """Share of the alarms that are of a fault."""
        return self.right / max(self.right + len(self.wrong), 1)


def verdict(load: Load, alarms: list[Alarm]) -> Verdict:
    """Compare alarms with the faults that there were."""
    said, seen = Verdict(), set()
    by_node: dict[int, Fault] = {fault.node: fault for fault in load.faults}
    for node, bucket, what in alarms:
        fault = by_node.get(node)
        if fault is None or not fault.begin <= bucket < fault.end + GRACE:
            said.wrong.append((node, bucket, what))
            continue
        said.right += 1
        if fault.node not in seen:
            seen.add(fault.node)
            said.delays[fault.kind].append(bucket - fault.begin)
    return said


def _speed() -> float:
    """Return seconds of one run for 1,000 nodes, arrays to findings."""
    load = draw_load(20, 20, 0, seed=9)
    nodes = 1000
    many = Load(np.tile(load.values, (nodes // 20, 1, 1)), [np.arange(nodes)], [])
    groups = [Group("all", many.groups[0])]
    watch = watch_at(many, LENGTH - 1, groups, np.zeros((nodes, len(WATCHED)), bool))
    begun = time.perf_counter()
    list(judge(watch))
    return time.perf_counter() - begun


def measure(stage: Stage) -> Section:
    """Measure."""
    nodes, each = (40, 2) if stage.quick else (200, 12)
    load = draw_load(nodes, 20, each, seed=1)
    section = Section(f"Anomalies: {nodes} nodes, a week, {5 * each} faults")
    for name, method in (("EVC", _ours), ("thresholds", _thresholds)):
        _add(section, name, load, method)
    seconds = _speed()
    section.add("EVC: judging 1,000 nodes", seconds, "s", goal=below(5, seconds, "s"))
    section.remarks.append("The load is drawn, its faults are known; thresholds: cpu, memory, storage 0.9, 75 °C, 2 s.")
    return section


def _add(section: Section, name: str, load: Load, method: Callable[[Load], Iterator[Alarm]]) -> None:
    said = verdict(load, list(method(load)))
    found = {kind: len(delays) for kind, delays in said.delays.items()}
    per_kind = len(load.faults) // len(KINDS)
    section.add(f"{name}: precision", said.precision, "ratio")
    section.add(f"{name}: recall", sum(found.values()) / max(len(load.faults), 1), "ratio")
    section.add(f"{name}: false alarms", len(said.wrong) / len(load.values), "a node and week")
    for kind, delays in said.delays.items():
        section.add(f"{name}: {kind}, noticed of {per_kind}", found[kind], "")
        if delays:
            section.add(f"{name}: {kind}, after", float(np.median(delays)) * BUCKET_S / 60, "min")
