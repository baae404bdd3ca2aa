"""Whether what a node does now is what it usually does at this hour, and what its group does.

Usual is a range: of each earlier occasion (the same hour of earlier weeks, else of earlier days) the 5th and the 95th
percentile, and of these the median over the occasions, so that one bad week among four changes nothing; how much the
occasions differ among themselves widens it. A group's range is the median of its nodes now and their scatter (median
absolute deviation). Both are order statistics: gaps and single outliers move neither.

Sources: Hampel's identifier (median and MAD) as in Pearson, "Outliers in process modeling and identification",
IEEE Transactions on Control Systems Technology 10 (2002); quantiles over occasions of the same hour as in
Vallis, Hochenbaum, Kejariwal, "A novel technique for long-term anomaly detection in the cloud", HotCloud 2014.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evc.anomalies.watched import WATCHED, Watched

Values = NDArray[np.float64]

BEGINS_AT = 2.0
"""How many times its usual half range a value lies off the middle when it is an anomaly."""
ENDS_AT = 1.2
BEGINS_AT_IN_GROUP = 6.0
"""The same in scatters of a group: what its nodes have in common is known from one moment only."""
MIN_OCCASIONS = 3
MIN_POINTS = 3
"""Of an occasion, that it counts."""
MIN_MEMBERS = 5
"""Of a group, the node itself not counted."""
_TO_SIGMA = 1.4826


@dataclass(frozen=True, slots=True)
class Range:
    """What is usual, by node and quantity; NaN where nothing is known. Of ``is_ratio`` quantities: logarithms."""

    low: Values
    middle: Values
    high: Values


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes that ought to behave alike. :param members: their places in the arrays"""

    name: str
    members: NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Watch:
    """What is known, NaN where nothing is.

    :param recent: by node, quantity and bucket: the last ones, the newest last
    :param weeks: by node, quantity, earlier week and bucket around this hour
    :param days: the same of earlier days
    :param is_open: by node and quantity: an anomaly goes on
    """

    recent: Values
    weeks: Values
    days: Values
    groups: Sequence[Group]
    is_open: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Finding:
    """An anomaly that begins or ends.

    :param node: its place in the arrays
    :param what: the quantity
    :param score: how far off, in half ranges
    :param message: for people, with the figures
    """

    node: int
    what: str
    begins: bool
    value: float
    score: float
    message: str


def judge(watch: Watch, watched: Sequence[Watched] = WATCHED) -> Iterator[Finding]:
    """Yield what begins and what ends now."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of ranges of nothing but NaN
        for place, quantity in enumerate(watched):
            yield from _Quantity(watch, place, quantity).findings()


class _Quantity:
    """One quantity of all nodes. :param place: of the quantity in the arrays"""

    def __init__(self, watch: Watch, place: int, quantity: Watched) -> None:
        self.quantity, self.groups = quantity, watch.groups
        self.is_open = watch.is_open[:, place]
        self.compared_with = np.zeros(len(watch.is_open), np.intp)
        """Place of the group that each node was compared with, now."""
        self.recent = self._scaled(watch.recent[:, place, -quantity.lasting :])
        weeks, days = (usual(self._scaled(history[:, place])) for history in (watch.weeks, watch.days))
        self.by_week = ~np.isnan(weeks.middle)
        self.own = Range(*(np.where(self.by_week, getattr(weeks, part), getattr(days, part)) for part in _PARTS))
        self.least = np.log(quantity.least) if quantity.is_ratio else quantity.least

    def _scaled(self, values: Values) -> Values:
        # 1 B/s: what is nothing has a logarithm too
        return np.log(np.maximum(values, 1.0)) if self.quantity.is_ratio else values

    def findings(self) -> Iterator[Finding]:
        """Yield what begins and what ends."""
        scores = self._scores()
        alike, in_group = self._group_scores(scores)
        own = self._lasting(scores - alike, BEGINS_AT) & (np.abs(scores[:, -1]) >= BEGINS_AT)
        unlike = self._lasting(in_group, BEGINS_AT_IN_GROUP) & ~self._is_usual()
        for node in np.flatnonzero((own | unlike) & ~self.is_open):
            score = scores[node, -1] if own[node] else in_group[node, -1]
            yield self._finding(int(node), True, float(score), self._began(int(node), bool(own[node])))
        for node in np.flatnonzero(self.is_open & self._is_quiet(scores, alike, in_group)):
            yield self._finding(int(node), False, float(scores[node, -1]), f"{self._now(int(node))}, as usual again")

    def _is_quiet(self, scores: Values, alike: Values, in_group: Values) -> NDArray[np.bool_]:
        """Whether an anomaly would be over: by what makes one begin, so that none can go on for ever."""
        known = ~np.isnan(self.recent).any(axis=1)
        known &= ~(np.isnan(scores).any(axis=1) & np.isnan(in_group).any(axis=1))
        itself = self._all_within(scores, ENDS_AT) | self._all_within(scores - alike, ENDS_AT)
        group = self._all_within(in_group, BEGINS_AT_IN_GROUP) | self._is_usual()
        return np.asarray(known & itself & group, np.bool_)

    def _finding(self, node: int, begins: bool, score: float, message: str) -> Finding:
        return Finding(node, self.quantity.name, begins, float(self._plain(self.recent[node, -1])), score, message)

    # -- scores ----------------------------------------------------------------------------------------------------

    def _scores(self) -> Values:
        """Return by node and bucket how many of its half ranges a value lies off its middle."""
        off = self.recent - self.own.middle[:, None]
        side = np.where(off > 0, self.own.high[:, None] - self.own.middle[:, None], 0)
        side = np.where(off < 0, self.own.middle[:, None] - self.own.low[:, None], side)
        scores: Values = off / np.maximum(side, self.least)
        return np.maximum(scores, 0) if self.quantity.sides == "high" else scores

    def _group_scores(self, scores: Values) -> tuple[Values, Values]:
        """Return by node and bucket how far off the nodes of its group are together, and how far off it is of them.

        Of several groups the one counts in which it stands out least.
        """
        alike, unlike = np.zeros_like(scores), np.full_like(scores, np.nan)
        for place, group in enumerate(self.groups):
            members = group.members
            values = self.recent[members]
            if len(members) <= MIN_MEMBERS or (np.sum(~np.isnan(values), axis=0) <= MIN_MEMBERS).any():
                continue
            alike[members] = _nearer(alike[members], np.nan_to_num(_median(scores[members].T)))
            middle = _median(values.T)
            scatter = _TO_SIGMA * _median(np.abs(values - middle).T)
            off = (values - middle) / np.maximum(scatter, self.least / 2)
            nearer = np.isnan(unlike[members]) | (np.abs(off) < np.abs(unlike[members]))
            unlike[members] = np.where(nearer, off, unlike[members])
            self.compared_with[members] = np.where(nearer[:, -1], place, self.compared_with[members])
        return alike, np.maximum(unlike, 0) if self.quantity.sides == "high" else unlike

    def _lasting(self, scores: Values, threshold: float) -> NDArray[np.bool_]:
        """Whether all of the last buckets are beyond, on the same side; one that is missing is not."""
        return np.asarray((scores >= threshold).all(axis=1) | (scores <= -threshold).all(axis=1), np.bool_)

    def _all_within(self, scores: Values, threshold: float) -> NDArray[np.bool_]:
        return np.asarray(~(np.abs(scores) > threshold).any(axis=1), np.bool_)

    def _is_usual(self) -> NDArray[np.bool_]:
        """Whether the node itself is often so, however its group is."""
        now = self.recent[:, -1]
        return (now >= self.own.low - self.least / 2) & (now <= self.own.high + self.least / 2)

    # -- words -----------------------------------------------------------------------------------------------------

    def _began(self, node: int, is_own: bool) -> str:
        if is_own:
            when = "at this hour of the week" if self.by_week[node] else "at this hour"
            return f"{self._now(node)}, usually {self._shown_range(self.own.low[node], self.own.high[node])} {when}"
        group = self.groups[self.compared_with[node]]
        values = self.recent[group.members[group.members != node], -1]
        others = self._shown_range(*np.nanpercentile(values, (5, 95)))
        return f"{self._now(node)}, other nodes of {group.name} {others}"

    def _now(self, node: int) -> str:
        return f"{self.quantity.name} {self.quantity.show(self._plain(self.recent[node, -1]), 0)}"

    def _shown_range(self, low: float, high: float) -> str:
        return self.quantity.show_range(self._plain(low), self._plain(high))

    def _plain(self, value: float) -> float:
        return float(np.exp(value) if self.quantity.is_ratio else value)


_PARTS = ("low", "middle", "high")


def usual(history: Values) -> Range:
    """Return the usual range of each node.

    :param history: by node, occasion and point
    """
    counts = np.sum(~np.isnan(history), axis=2) >= MIN_POINTS
    history = np.where(counts[..., None], history, np.nan)
    lows, middles, highs = (_quantile(history, share) for share in (0.05, 0.5, 0.95))
    middle = _median(middles)
    between = _TO_SIGMA * _median(np.abs(middles - middle[:, None]))
    known = np.sum(counts, axis=1) >= MIN_OCCASIONS
    low, high = _median(lows) - between, _median(highs) + between
    return Range(*(np.where(known, part, np.nan) for part in (low, middle, high)))


def _quantile(values: Values, share: float) -> Values:
    """Return the quantile along the last axis, NaN left out: numpy's own takes a hundred times as long with NaN."""
    ordered = np.sort(values, axis=-1)  # NaN come last
    count = np.sum(~np.isnan(values), axis=-1)
    place = np.maximum(np.round(share * (count - 1)), 0).astype(np.intp)
    return np.take_along_axis(ordered, place[..., None], axis=-1)[..., 0]


def _median(values: Values) -> Values:
    return _quantile(values, 0.5)


def _nearer(known: Values, more: Values) -> Values:
    """Return the greater of two common movements: what several groups share is subtracted once."""
    return np.where(np.abs(known) >= np.abs(more), known, more)
