"""What cameras saw: sightings, and the tracks that they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from evc.errors import InputError
from evc.identities.embedding import Matrix

TrackKey = tuple[int, str]
"""A run (``inference_runs.id``) and the track's label in it."""


@dataclass(frozen=True, slots=True)
class Sightings:
    """N sightings in any order, one column each.

    :param run: ``inference_runs.id``, N x int64
    :param seq: number of the line in its run, N x int64
    :param node: ``nodes.id``, N x int64
    :param ts: when, unix seconds, N x float64
    :param track: label of the track within its run, N
    :param vectors: N x D x float32, each of length 1
    :raises InputError: the columns have different lengths
    """

    run: NDArray[np.int64]
    seq: NDArray[np.int64]
    node: NDArray[np.int64]
    ts: NDArray[np.float64]
    track: tuple[str, ...]
    vectors: Matrix

    def __post_init__(self) -> None:
        lengths = {len(column) for column in (self.run, self.seq, self.node, self.ts, self.track, self.vectors)}
        if len(lengths) != 1 or self.vectors.ndim != 2:
            raise InputError("sightings", f"columns of {sorted(lengths)} rows", "as many in each, vectors N x D")

    def __len__(self) -> int:
        return len(self.track)

    def after(self, through: Mapping[int, int]) -> Sightings:
        """Return those that come after the line that was linked last of their run."""
        last = np.array([through.get(run, -1) for run in self.run.tolist()], np.int64)
        kept = self.seq > last
        return self if bool(kept.all()) else self.take(np.flatnonzero(kept))

    def take(self, rows: NDArray[np.intp]) -> Sightings:
        """Return some of them."""
        track = tuple(self.track[row] for row in rows.tolist())
        return Sightings(self.run[rows], self.seq[rows], self.node[rows], self.ts[rows], track, self.vectors[rows])

    def last_lines(self) -> dict[int, int]:
        """Return the highest ``seq`` of each run."""
        last: dict[int, int] = {}
        for run, seq in zip(self.run.tolist(), self.seq.tolist(), strict=True):
            last[run] = max(last.get(run, -1), seq)
        return last


@dataclass(frozen=True, slots=True)
class Tracks:
    """T tracks by begin, run and label: what one camera saw of one person without losing them.

    :param node: ``nodes.id``
    :param begin, end: unix seconds
    :param count: sightings
    :param sums: sums of the sightings' vectors, T x D
    """

    keys: list[TrackKey]
    node: list[int]
    begin: list[float]
    end: list[float]
    count: list[int]
    sums: Matrix


def tracks_of(sightings: Sightings) -> Tracks:
    """Return the tracks that sightings make. A track belongs to the node of its first line."""
    keys: dict[TrackKey, int] = {}
    pairs = zip(sightings.run.tolist(), sightings.track, strict=True)
    number = np.array([keys.setdefault(pair, len(keys)) for pair in pairs], np.intp)
    rows = np.lexsort((sightings.seq, number))  # the same sums, whatever order they came in
    first = np.flatnonzero(np.diff(number[rows], prepend=-1))
    ts = sightings.ts[rows]
    begin, end = np.minimum.reduceat(ts, first), np.maximum.reduceat(ts, first)
    names = list(keys)
    by_time = sorted(range(len(names)), key=lambda at: (begin[at], names[at]))
    count = np.diff(first, append=len(rows))
    sums = sightings.vectors[rows] if len(first) == len(rows) else _sums(sightings.vectors, rows, first)
    return Tracks(
        [names[at] for at in by_time],
        sightings.node[rows][first][by_time].tolist(),
        begin[by_time].tolist(),
        end[by_time].tolist(),
        count[by_time].tolist(),
        sums[by_time],
    )


def _sums(vectors: Matrix, rows: NDArray[np.intp], first: NDArray[np.intp]) -> Matrix:
    """Add up track by track: one pass over all rows at once would need them all a second time."""
    bounds = pairwise([*first.tolist(), len(rows)])
    return np.stack([vectors[rows[begin:end]].sum(axis=0, dtype=np.float32) for begin, end in bounds])
