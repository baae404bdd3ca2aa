"""The gallery: identities, what they look like, where and when they were seen: the state between two runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from evc.errors import InputError
from evc.identities.embedding import Matrix, Vector
from evc.identities.sightings import TrackKey


class Visit(NamedTuple):
    """One track of an identity: somebody was seen by a node for a while.

    :param begin, end: unix seconds
    :param similarity: cosine with the identity when it was linked, -1 to 1; None: the identity begins with it
    """

    begin: float
    end: float
    node: int
    run: int
    track: str
    sightings: int
    similarity: float | None


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody, as far as looks tell.

    :param id: within the gallery, from 1
    :param total: sum of the vectors of all sightings, D
    :param visits: by begin
    """

    id: int
    total: Vector
    visits: tuple[Visit, ...]

    @property
    def sightings(self) -> int:
        """How many."""
        return sum(visit.sightings for visit in self.visits)

    @property
    def begin(self) -> float:
        """When first, unix seconds."""
        return self.visits[0].begin

    @property
    def end(self) -> float:
        """When last, unix seconds."""
        return max(visit.end for visit in self.visits)


@dataclass(frozen=True, slots=True)
class Gallery:
    """All that linking goes on from.

    :param describer: what made the vectors; those of others are never compared with them
    :param identities: by id
    :param next_id: of the next identity: higher than any that was ever given
    :param through: by run: ``seq`` of the last line that was linked
    """

    describer: str
    identities: Mapping[int, Identity] = field(default_factory=dict)
    next_id: int = 1
    through: Mapping[int, int] = field(default_factory=dict)

    def matrix(self, size: int) -> Matrix:
        """Return the sums of all identities' vectors, G x D.

        :raises InputError: vectors of another size: not of this describer
        """
        rows = [identity.total for identity in self.identities.values()]
        if any(len(row) != size for row in rows):
            raise InputError("sightings", f"vectors of {size} numbers", f"{len(rows[0])}, as in the gallery")
        return np.stack(rows).astype(np.float32) if rows else np.empty((0, size), np.float32)

    def tracks(self) -> dict[TrackKey, int]:
        """Return the identity of each track."""
        return {(visit.run, visit.track): one.id for one in self.identities.values() for visit in one.visits}
