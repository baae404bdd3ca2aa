"""Anomalies of nodes: what is compared with what, read from the rollups; what was noticed, kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Float, cast, func, select, update

from evc.anomalies.judge import Finding, Group, Watch
from evc.anomalies.watched import WATCHED
from evc.anomalies.windows import day_times, recent_times, week_times
from evc.store.dialects import insert_into
from evc.store.events import ANOMALY, record_event
from evc.store.tables import node_anomalies, node_samples_5m, nodes

KIND = ANOMALY
LOOK_BACK_S = 3600
"""What was made before is not looked at any more."""
_bucket = node_samples_5m.c
_IN_USE = {
    "memory": 1 - _bucket.memory_available_bytes_avg / cast(func.nullif(_bucket.memory_total_bytes, 0), Float),
    "storage": _bucket.storage_used_bytes_avg / cast(func.nullif(_bucket.storage_total_bytes, 0), Float),
}
_COLUMNS: dict[str, Any] = {
    **_IN_USE,
    "cpu": _bucket.cpu_usage_ratio_avg,
    "temperature": _bucket.temperature_celsius_avg,
    "receive": _bucket.network_receive_bytes_per_s_avg,
    "transmit": _bucket.network_transmit_bytes_per_s_avg,
    "disk pressure": _bucket.pressure_io_ratio_avg,
    "answer time": _bucket.sweep_duration_s_avg,
}
"""By quantity, where a rollup has it. A total of 0 is unknown: PostgreSQL would refuse to divide by it."""


@dataclass(frozen=True, slots=True)
class WatchedNodes:
    """Nodes and what is known of them. :param names: in the order of the arrays, as are the ids"""

    ids: list[int]
    names: list[str]
    watch: Watch


def newest_bucket(connection: Connection, last_ts: int) -> int | None:
    """Return the begin of the newest bucket that was made, up to ``last_ts``; None where the last hour has none."""
    ts = _bucket.ts
    made = select(func.max(ts)).where(ts <= last_ts, ts > last_ts - LOOK_BACK_S)
    found: int | None = connection.scalar(made)
    return found


def has_buckets(connection: Connection) -> bool:
    """Whether samples were rolled up at all."""
    return connection.scalar(select(_bucket.ts).limit(1)) is not None


def read_watch(connection: Connection, last_ts: int) -> WatchedNodes:
    """Read what is to be judged.

    :param last_ts: begin of the newest bucket
    """
    rows = connection.execute(
        select(nodes.c.id, nodes.c.name, nodes.c.groups).where(nodes.c.removed_ts.is_(None)).order_by(nodes.c.id)
    ).all()
    ids = [int(row.id) for row in rows]
    recent, weeks, days = recent_times(last_ts), week_times(last_ts), day_times(last_ts)
    history = _read(connection, ids, [recent, *weeks, *days])
    watch = Watch(
        history(recent),
        np.stack([history(times) for times in weeks], axis=2),
        np.stack([history(times) for times in days], axis=2),
        _groups([list(row.groups or ()) for row in rows]),
        _open(connection, ids),
    )
    return WatchedNodes(ids, [str(row.name) for row in rows], watch)


class _History:
    """Values by node, quantity and bucket. :param times: begins of the buckets, sorted"""

    def __init__(self, values: NDArray[np.float64], times: NDArray[np.int64]) -> None:
        self._values, self._times = values, times

    def __call__(self, times: Sequence[int]) -> NDArray[np.float64]:
        return np.asarray(self._values[:, :, np.searchsorted(self._times, times)], np.float64)


def _read(connection: Connection, ids: list[int], windows: Iterable[Sequence[int]]) -> _History:
    times = np.array(sorted({ts for window in windows for ts in window}), np.int64)
    values = np.full((len(ids), len(WATCHED), len(times)), np.nan)
    columns = [_COLUMNS[quantity.name] for quantity in WATCHED]
    # a window at a time: each is a range of the key
    for first, last in _spans(times):
        query = select(_bucket.ts, _bucket.node_id, *columns).where(_bucket.ts >= first, _bucket.ts <= last)
        rows = connection.execute(query).all()
        if rows and ids:
            _fill(values, times, np.array(ids), np.array([tuple(row) for row in rows], np.float64))
    return _History(values, times)


def _spans(times: NDArray[np.int64], gap_s: int = 3 * 3600) -> Iterable[tuple[int, int]]:
    """Yield first and last of what lies close together."""
    if not len(times):
        return
    breaks = np.flatnonzero(np.diff(times) > gap_s)
    for first, last in zip(np.r_[0, breaks + 1], np.r_[breaks, len(times) - 1], strict=True):
        yield int(times[first]), int(times[last])


def _fill(
    values: NDArray[np.float64], times: NDArray[np.int64], ids: NDArray[np.int64], rows: NDArray[np.float64]
) -> None:
    """Put rows of ``ts``, node, quantities in their places; those that nobody asked for are left out."""
    ts, node = rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64)
    at = np.minimum(np.searchsorted(times, ts), len(times) - 1)
    whose = np.minimum(np.searchsorted(ids, node), len(ids) - 1)
    wanted = (times[at] == ts) & (ids[whose] == node)
    values[whose[wanted], :, at[wanted]] = rows[wanted, 2:]


def _groups(groups: Sequence[Sequence[str]]) -> list[Group]:
    members: dict[str, list[int]] = {}
    for place, names in enumerate(groups):
        for name in names:
            members.setdefault(name, []).append(place)
    return [Group(name, np.array(places, np.intp)) for name, places in sorted(members.items())]


def _open(connection: Connection, ids: list[int]) -> NDArray[np.bool_]:
    is_open = np.zeros((len(ids), len(WATCHED)), np.bool_)
    place = {node_id: place for place, node_id in enumerate(ids)}
    quantity = {watched.name: place for place, watched in enumerate(WATCHED)}
    query = select(node_anomalies.c.node_id, node_anomalies.c.what).where(node_anomalies.c.end_ts.is_(None))
    for node_id, what in connection.execute(query):
        if node_id in place and what in quantity:
            is_open[place[node_id], quantity[what]] = True
    return is_open


def record_findings(connection: Connection, watched: WatchedNodes, findings: Iterable[Finding], ts: int) -> int:
    """Keep what begins and what ends, and an event for each node; returns how many events that are.

    Twice for the same bucket is once: what began is open then, what ended is not. Those of removed nodes end.

    :param ts: begin of the newest bucket
    """
    _end_of_removed(connection, ts)
    said: dict[int, tuple[list[str], list[str]]] = {}
    for finding in findings:
        node_id = watched.ids[finding.node]
        if (_begin if finding.begins else _end)(connection, node_id, finding, ts):
            begun, ended = said.setdefault(node_id, ([], []))
            (begun if finding.begins else ended).append(finding.message)
    for node_id, (begun, ended) in said.items():
        _tell(connection, node_id, "; ".join([*begun, *ended]), ts, is_begin=bool(begun))
    return len(said)


def _tell(connection: Connection, node_id: int, message: str, ts: int, *, is_begin: bool) -> None:
    # what is there is of an earlier look at this bucket, before late samples came: it said something else
    while not record_event(connection, node_id, KIND, "warning" if is_begin else "info", message, ts):
        ts += 1


def _begin(connection: Connection, node_id: int, finding: Finding, ts: int) -> bool:
    values = {"value": finding.value, "score": finding.score, "message": finding.message}
    made = insert_into(connection, node_anomalies).values(node_id=node_id, what=finding.what, ts=ts, **values)
    # of two looks at once one begins it; what late samples ended in this bucket begins anew in the next one
    begun = made.on_conflict_do_nothing().returning(node_anomalies.c.ts)
    return connection.execute(begun).first() is not None


def _end(connection: Connection, node_id: int, finding: Finding, ts: int) -> bool:
    anomaly = node_anomalies.c
    is_it = (anomaly.node_id == node_id, anomaly.what == finding.what, anomaly.end_ts.is_(None))
    return connection.execute(update(node_anomalies).where(*is_it).values(end_ts=ts)).rowcount > 0


def _end_of_removed(connection: Connection, ts: int) -> None:
    removed = select(nodes.c.id).where(nodes.c.removed_ts.is_not(None))
    is_it = (node_anomalies.c.end_ts.is_(None), node_anomalies.c.node_id.in_(removed))
    connection.execute(update(node_anomalies).where(*is_it).values(end_ts=ts))
