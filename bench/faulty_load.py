"""Five weeks of a fleet's telemetry, drawn, with faults in the last week whose begin and end are known.

Drawn after what the quantities do on real nodes: work by day and week, bursts of jobs at any hour, weather that the
nodes of a site share, memory that is freed at restarts, disks that grow, gaps, hours without a node, nodes that came
later. The random numbers are the same at each run of a seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evc.anomalies.watched import WATCHED
from evc.anomalies.windows import BUCKET_S, DAY_S

DAY = DAY_S // BUCKET_S
WEEK = 7 * DAY
LENGTH = 5 * WEEK
PLACE = {quantity.name: place for place, quantity in enumerate(WATCHED)}
HOUR = 3600 // BUCKET_S

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fault:
    """What was done to a node. :param begin: bucket; ``end`` is the first one after it"""

    kind: str
    node: int
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Load:
    """By node, quantity and bucket; NaN where there is a gap."""

    values: Values
    groups: list[NDArray[np.intp]]
    faults: list[Fault]


def draw_load(nodes: int, group_size: int, faults_of_each: int, seed: int) -> Load:
    """Draw a fleet; each fault has a node of its own."""
    random = np.random.default_rng(seed)
    groups = [np.arange(first, min(first + group_size, nodes)) for first in range(0, nodes, group_size)]
    values = np.full((nodes, len(WATCHED), LENGTH), np.nan)
    for group in groups:
        weather = _weather(random)
        rhythm = random.uniform(0.1, 0.5), random.uniform(8, 13), random.uniform(0.2, 1.0)
        for node in group:
            values[node] = _node(random, weather, rhythm)
    victims = iter(random.permutation(nodes))
    faults = [_inject(random, values, kind, int(next(victims))) for kind in _FAULTS for _ in range(faults_of_each)]
    _leave_gaps(random, values, {fault.node for fault in faults})
    return Load(values, groups, faults)


def _noise(random: np.random.Generator, sigma: float, memory: float = 0.8) -> Values:
    """Return noise that remembers its last value."""
    steps = random.normal(0, sigma * np.sqrt(1 - memory**2), LENGTH)
    out = np.empty(LENGTH)
    last = 0.0
    for place, step in enumerate(steps):
        last = memory * last + step
        out[place] = last
    return out


def _weather(random: np.random.Generator) -> Values:
    """Return °C: a day's course, and days that differ."""
    hour = np.arange(LENGTH) / HOUR
    days = np.repeat(np.cumsum(random.normal(0, 1.0, LENGTH // DAY + 1)), DAY)[:LENGTH]
    return 20 + 5 * np.sin((hour - 9) * np.pi / 12) + np.clip(days, -8, 8)


def _node(random: np.random.Generator, weather: Values, rhythm: tuple[float, float, float]) -> Values:
    bucket = np.arange(LENGTH)
    hour, weekday = (bucket / HOUR) % 24, (bucket // DAY) % 7
    height, middle, weekend = rhythm
    work = height * np.exp(-(((hour - middle) / 4) ** 2)) * np.where(weekday >= 5, weekend, 1.0)
    cpu = random.uniform(0.05, 0.3) + work * random.uniform(0.7, 1.3) + _noise(random, 0.03)
    for begin in random.integers(0, LENGTH, random.integers(5, 40)):  # jobs at any hour, ten to forty minutes
        cpu[begin : begin + random.integers(2, 9)] += random.uniform(0.2, 0.6)
    cpu = np.clip(cpu, 0.01, 1.0)
    values = np.empty((len(WATCHED), LENGTH))
    values[PLACE["cpu"]] = cpu
    values[PLACE["temperature"]] = 20 + weather + random.uniform(15, 30) * cpu + _noise(random, 0.6)
    restarts = np.cumsum(random.random(LENGTH) < 1 / (10 * DAY))
    since = bucket - np.maximum.accumulate(np.where(np.diff(restarts, prepend=0) > 0, bucket, 0))
    growth = random.uniform(0, 0.03) * np.minimum(since / (7 * DAY), 1)
    values[PLACE["memory"]] = np.clip(random.uniform(0.2, 0.6) + 0.15 * cpu + growth + _noise(random, 0.01), 0.02, 0.97)
    fills = random.uniform(0.0, 0.02) * bucket / WEEK
    values[PLACE["storage"]] = np.clip(random.uniform(0.2, 0.7) + fills + _noise(random, 0.002), 0.02, 0.98)
    for name in ("receive", "transmit"):
        values[PLACE[name]] = 10 ** random.uniform(3, 6) * np.exp(2 * work + _noise(random, 0.5, 0.5))
    values[PLACE["disk pressure"]] = np.clip(0.02 + 0.1 * cpu + np.abs(_noise(random, 0.02, 0.3)), 0, 1)
    values[PLACE["answer time"]] = 0.1 + 0.2 * cpu + np.abs(_noise(random, 0.05, 0.2))
    return values


# -- faults ------------------------------------------------------------------------------------------------------------


def _ramp(length: int, over: int) -> Values:
    return np.minimum(np.arange(1, length + 1) / over, 1.0)


def _stuck_fan(random: np.random.Generator, values: Values) -> None:
    values[PLACE["temperature"]] += random.uniform(12, 25) * _ramp(values.shape[1], HOUR // 2)


def _memory_leak(random: np.random.Generator, values: Values) -> None:
    rise = random.uniform(0.3, 0.5) * _ramp(values.shape[1], values.shape[1])
    values[PLACE["memory"]] = np.minimum(values[PLACE["memory"]] + rise, 0.98)


def _filling_disk(random: np.random.Generator, values: Values) -> None:
    rise = random.uniform(0.15, 0.3) * _ramp(values.shape[1], values.shape[1])
    values[PLACE["storage"]] = np.minimum(values[PLACE["storage"]] + rise, 1.0)


def _dying_link(random: np.random.Generator, values: Values) -> None:
    values[PLACE["answer time"]] = values[PLACE["answer time"]] * random.uniform(4, 8) + random.uniform(0.5, 2)
    for name in ("receive", "transmit"):
        values[PLACE[name]] *= random.uniform(0.02, 0.1)


def _runaway(random: np.random.Generator, values: Values) -> None:
    before = values[PLACE["cpu"]].copy()
    values[PLACE["cpu"]] = np.clip(before + random.uniform(0.5, 0.8), 0, 1)
    values[PLACE["temperature"]] += 20 * (values[PLACE["cpu"]] - before)


_FAULTS = {
    "stuck fan": (_stuck_fan, 8),
    "memory leak": (_memory_leak, 24),
    "filling disk": (_filling_disk, 12),
    "dying link": (_dying_link, 6),
    "runaway process": (_runaway, 4),
}
"""What is done, and for how many hours."""
KINDS = tuple(_FAULTS)


def _inject(random: np.random.Generator, values: Values, kind: str, node: int) -> Fault:
    change, hours = _FAULTS[kind]
    length = hours * HOUR
    begin = int(random.integers(LENGTH - WEEK, LENGTH - length))
    change(random, values[node, :, begin : begin + length])
    return Fault(kind, node, begin, begin + length)


def _leave_gaps(random: np.random.Generator, values: Values, victims: set[int]) -> None:
    nodes = len(values)
    values[(random.random((nodes, 1, LENGTH)) < 0.01).repeat(values.shape[1], axis=1)] = np.nan
    for node in range(nodes):
        for begin in random.integers(0, LENGTH, 3):  # hours away
            if node not in victims or begin < LENGTH - WEEK - 12 * HOUR:
                values[node, :, begin : begin + random.integers(HOUR, 12 * HOUR)] = np.nan
        if node not in victims and random.random() < 0.1:  # came later
            values[node, :, : random.integers(WEEK, 4 * WEEK)] = np.nan
