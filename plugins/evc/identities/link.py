"""Links sightings to identities: by looks, unless time and place forbid it.

Who looks alike (cosine of the vectors, at least ``similarity_min``) may be one person. It is another one where one
camera sees both at the same time, or where nobody is fast enough to come from one place to the other.

Tracks are linked, not single sightings. They are taken in blocks by time. In a block those that look alike are joined
to groups, the most alike first, as long as the groups' means look alike too. Then all pairs of a group and an identity
that look alike are tried, the most alike first: that is greedy assignment over the block, not first come, first served.
What is left of a group begins a new identity. A link is never taken back.

Incremental: what was linked before is left out by run and line number, so the same sightings twice change nothing, and
a track that goes on stays with its identity. A late sighting, of a node that was away, is held against all visits of
an identity, those before and those after it.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evc.errors import InputError
from evc.identities.embedding import Matrix, Vector, unit
from evc.identities.gallery import Gallery, Identity, Visit
from evc.identities.sightings import Sightings, Tracks, tracks_of
from evc.identities.travel import Place, Travel

BLOCK = 1024
CANDIDATES = 32
"""Of a track, where more identities look like it than can sensibly be tried."""


@dataclass(frozen=True, slots=True)
class Rules:
    """When two tracks may be one person.

    :param similarity_min: cosine, 0 to 1; it depends on the describer
    :param speed_m_per_s: nobody is faster; 3 is a person who runs slowly
    :param reach_m: how far from its node a person that its camera sees may be
    :param forget_s: who was not seen for so long is somebody new: people change their clothes
    :raises InputError: out of range
    """

    similarity_min: float = 0.9
    speed_m_per_s: float = 3.0
    reach_m: float = 30.0
    forget_s: float = 12 * 3600.0

    def __post_init__(self) -> None:
        for name, least, most in (
            ("similarity_min", 0.0, 1.0),
            ("speed_m_per_s", 0.01, 1000.0),
            ("reach_m", 0.0, 100_000.0),
            ("forget_s", 1.0, 10 * 365 * 86400.0),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise InputError(name, repr(value), f"{least:g} to {most:g}")


@dataclass(frozen=True, slots=True)
class Linked:
    """What linking made.

    :param gallery: to go on from
    :param changed: identities that are new, or were seen again, by id
    :param visits: of those: visits that are new, or have grown, with the id of their identity
    """

    gallery: Gallery
    changed: tuple[Identity, ...]
    visits: tuple[tuple[int, Visit], ...]


def link(
    gallery: Gallery, sightings: Sightings, places: Mapping[int, Place | None], rules: Rules | None = None
) -> Linked:
    """Link sightings to the identities of a gallery; those that are like none become new ones.

    :param places: of nodes, by id: degrees north and east; None, or not there: nobody knows
    :raises InputError: vectors of another size than the gallery's
    """
    fresh = sightings.after(gallery.through)
    if not len(fresh):
        return Linked(gallery, (), ())
    work = _Work(gallery, fresh.vectors.shape[1], places, rules or Rules())
    work.take(tracks_of(fresh))
    return work.done(fresh.last_lines())


class _Known:
    """An identity while it is worked on."""

    __slots__ = ("begin", "changed", "end", "id", "longest_s", "visits")

    def __init__(self, id_: int, visits: list[Visit]) -> None:
        self.id = id_
        self.visits = visits
        self.changed: set[tuple[int, str]] = set()
        self.begin = min((visit.begin for visit in visits), default=np.inf)
        self.end = max((visit.end for visit in visits), default=-np.inf)
        self.longest_s = max((visit.end - visit.begin for visit in visits), default=0.0)

    def add(self, visit: Visit) -> None:
        insort(self.visits, visit, key=lambda each: each[:5])
        self.changed.add((visit.run, visit.track))
        self.begin, self.end = min(self.begin, visit.begin), max(self.end, visit.end)
        self.longest_s = max(self.longest_s, visit.end - visit.begin)

    def allows(self, begin: float, end: float, node: int, travel: Travel, forget_s: float) -> bool:
        """Return whether one who was seen as this identity was can be at ``node`` from ``begin`` to ``end``."""
        if begin - self.end > forget_s or self.begin - end > forget_s:
            return False
        visits, window_s = self.visits, travel.longest_s
        earliest = begin - window_s - self.longest_s
        # visits that begin later than this can be reached from the end of the track, whatever the places
        for at in range(bisect_right(visits, end + window_s, key=_begin) - 1, -1, -1):
            visit = visits[at]
            if visit.begin < earliest:
                break
            if visit.node == node:
                if (visit.begin < end and begin < visit.end) or visit.begin == begin:
                    return False  # two at once in one picture
            elif max(begin - visit.end, visit.begin - end, 0.0) < travel.seconds(node, visit.node):
                return False
        return True


class _Group(_Known):
    """Tracks of a block that are one person, not yet linked to an identity."""

    __slots__ = ("indexes", "total")

    def __init__(self, indexes: list[int], total: Vector, visit: Visit) -> None:
        super().__init__(0, [visit])
        self.indexes = indexes
        self.total = total

    def likeness(self, other: _Group) -> float:
        """Return the cosine of two groups' looks."""
        lengths = float(np.sqrt((self.total @ self.total) * (other.total @ other.total)))
        return float(self.total @ other.total) / max(lengths, 1e-12)

    def join(self, other: _Group) -> None:
        """Take what another group holds."""
        self.indexes += other.indexes
        self.total += other.total
        for visit in other.visits:
            self.add(visit)


def _begin(visit: Visit) -> float:
    return visit.begin


def _visit(tracks: Tracks, at: int) -> Visit:
    run, track = tracks.keys[at]
    return Visit(tracks.begin[at], tracks.end[at], tracks.node[at], run, track, tracks.count[at], None)


class _Work:
    def __init__(self, gallery: Gallery, size: int, places: Mapping[int, Place | None], rules: Rules) -> None:
        self._gallery = gallery
        self._rules = rules
        self._travel = Travel(places, rules.speed_m_per_s, rules.reach_m)
        self._totals = gallery.matrix(size)
        self._units = unit(self._totals)
        self._known = [_Known(identity.id, list(identity.visits)) for identity in gallery.identities.values()]
        self._next_id = gallery.next_id
        self._touched: list[int] = []  # rows of totals whose units are to be made anew

    def take(self, tracks: Tracks) -> None:
        """Link tracks, those that are known first."""
        row_of = {known.id: row for row, known in enumerate(self._known)}
        known = {key: row_of[id_] for key, id_ in self._gallery.tracks().items()}
        new = []
        for at, key in enumerate(tracks.keys):
            if key in known:
                self._grow(known[key], tracks, at)
            else:
                new.append(at)
        for begin in range(0, len(new), BLOCK):
            self._link_block(tracks, np.array(new[begin : begin + BLOCK], np.intp))

    def done(self, last_lines: Mapping[int, int]) -> Linked:
        """Return what has become of it."""
        changed = {row: known for row, known in enumerate(self._known) if known.changed}
        made = {
            known.id: Identity(known.id, self._totals[row].copy(), tuple(known.visits))
            for row, known in changed.items()
        }
        visits = tuple(
            (known.id, visit)
            for known in changed.values()
            for visit in known.visits
            if (visit.run, visit.track) in known.changed
        )
        gallery = replace(
            self._gallery,
            identities={**self._gallery.identities, **made},
            next_id=self._next_id,
            through={**self._gallery.through, **last_lines},
        )
        return Linked(gallery, tuple(made.values()), visits)

    # -- one track -----------------------------------------------------------------------------------------------------

    def _grow(self, row: int, tracks: Tracks, at: int) -> None:
        """Lengthen a visit: the track goes on, or a part of it came late."""
        known = self._known[row]
        found = next(index for index, visit in enumerate(known.visits) if (visit.run, visit.track) == tracks.keys[at])
        visit = known.visits.pop(found)
        begin, end = min(visit.begin, tracks.begin[at]), max(visit.end, tracks.end[at])
        known.add(visit._replace(begin=begin, end=end, sightings=visit.sightings + tracks.count[at]))
        self._add_to_total(row, tracks, at)

    def _add(self, row: int, tracks: Tracks, at: int, similarity: float | None) -> None:
        self._known[row].add(_visit(tracks, at)._replace(similarity=similarity))
        self._add_to_total(row, tracks, at)

    def _add_to_total(self, row: int, tracks: Tracks, at: int) -> None:
        self._totals[row] += tracks.sums[at]
        self._touched.append(row)

    # -- a block of tracks ---------------------------------------------------------------------------------------------

    def _link_block(self, tracks: Tracks, block: NDArray[np.intp]) -> None:
        self._units[self._touched] = unit(self._totals[self._touched])
        self._touched.clear()
        units = unit(tracks.sums[block])
        groups = self._grouped(tracks, block, units)
        looks = unit(np.stack([group.total for group in groups]))
        similar = looks @ self._units[: len(self._known)].T
        left = [sorted(group.indexes) for group in groups]
        for number, row in zip(*_pairs(similar, self._rules.similarity_min), strict=True):
            # where an identity can't be all of a group, it may still be some of it
            for index in tuple(left[number]):
                if self._allows(row, tracks, int(block[index])):
                    self._add(row, tracks, int(block[index]), float(units[index] @ self._units[row]))
                    left[number].remove(index)
        self._reserve(len(self._known) + len(groups))
        for number, indexes in enumerate(left):
            if indexes:
                self._begin(tracks, block, indexes, units @ looks[number])

    def _begin(self, tracks: Tracks, block: NDArray[np.intp], indexes: list[int], likes: NDArray[np.float32]) -> None:
        """Begin an identity with the tracks of a group, by time."""
        self._known.append(_Known(self._next_id, []))
        self._next_id += 1
        for place, index in enumerate(indexes):
            self._add(len(self._known) - 1, tracks, int(block[index]), float(likes[index]) if place else None)

    def _grouped(self, tracks: Tracks, block: NDArray[np.intp], units: Matrix) -> list[_Group]:
        """Join the tracks of a block that are like each other, the most alike first; returns groups by begin."""
        groups = [
            _Group([index], tracks.sums[at].copy(), _visit(tracks, at)) for index, at in enumerate(block.tolist())
        ]
        group_of = list(groups)
        similar = np.triu(units @ units.T, 1)
        for one, other in zip(*_pairs(similar, max(self._rules.similarity_min, 1e-6)), strict=True):
            left, right = group_of[one], group_of[other]
            if left is right:
                continue
            if len(left.indexes) < len(right.indexes):
                left, right = right, left
            if left.likeness(right) >= self._rules.similarity_min and self._allow(left, right.visits):
                left.join(right)
                for index in right.indexes:
                    group_of[index] = left
        return list({id(group): group for group in group_of}.values())

    def _allows(self, row: int, tracks: Tracks, at: int) -> bool:
        return self._allow(self._known[row], [_visit(tracks, at)])

    def _allow(self, known: _Known, visits: list[Visit]) -> bool:
        return all(
            known.allows(visit.begin, visit.end, visit.node, self._travel, self._rules.forget_s) for visit in visits
        )

    def _reserve(self, rows: int) -> None:
        if rows > len(self._totals):
            more = np.zeros((max(rows, 2 * len(self._totals)) - len(self._totals), self._totals.shape[1]), np.float32)
            self._totals = np.concatenate([self._totals, more])
            self._units = np.concatenate([self._units, more])


def _pairs(similar: NDArray[np.float32], least: float) -> tuple[list[int], list[int]]:
    """Return the pairs of row and column that are alike, the most alike first, of each row the best few."""
    if similar.shape[1] > CANDIDATES:
        floor = np.partition(similar, -CANDIDATES, axis=1)[:, -CANDIDATES] if _is_dense(similar, least) else None
        alike = similar >= (least if floor is None else np.maximum(floor, least)[:, None])
    else:
        alike = similar >= least
    rows, columns = np.divmod(np.flatnonzero(alike), similar.shape[1])  # much faster than nonzero() of two dimensions
    order = np.lexsort((columns, rows, -similar[rows, columns]))
    return rows[order].tolist(), columns[order].tolist()


def _is_dense(similar: NDArray[np.float32], least: float) -> bool:
    return int(np.count_nonzero(similar >= least)) > CANDIDATES * len(similar)
