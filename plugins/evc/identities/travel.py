"""How long it takes at least to come from one node's camera to another's.

Source: haversine formula, R. W. Sinnott, Virtues of the Haversine, Sky and Telescope 68 (1984); mean radius of the
earth by IUGG, 6,371,008.8 m.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

EARTH_RADIUS_M = 6_371_008.8

Place = tuple[float, float]
"""Degrees north and east (WGS 84)."""


def distance_m(one: Place, other: Place) -> float:
    """Return the distance of two places over the earth's surface, metres."""
    (north, east), (other_north, other_east) = one, other
    low, high = math.radians(north), math.radians(other_north)
    half = math.sin((high - low) / 2) ** 2
    half += math.cos(low) * math.cos(high) * math.sin(math.radians(other_east - east) / 2) ** 2
    return 2 * EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(half)))


class Travel:
    """The least time between nodes, each pair reckoned once.

    :param places: by node id; a node without one may be anywhere
    :param speed_m_per_s: nobody is faster
    :param reach_m: how far from its node a person that its camera sees may be
    """

    def __init__(self, places: Mapping[int, Place | None], speed_m_per_s: float, reach_m: float) -> None:
        self._places = places
        self._speed_m_per_s = speed_m_per_s
        self._reach_m = reach_m
        self._known: dict[tuple[int, int], float] = {}
        self.longest_s = self._longest_s()

    def seconds(self, one: int, other: int) -> float:
        """Return the least time from one node's view to another's; 0 where the views may overlap or nobody knows."""
        key = (one, other) if one < other else (other, one)
        found = self._known.get(key)
        if found is None:
            here, there = self._places.get(key[0]), self._places.get(key[1])
            found = 0.0
            if here is not None and there is not None:
                found = max(distance_m(here, there) - 2 * self._reach_m, 0.0) / self._speed_m_per_s
            self._known[key] = found
        return found

    def _longest_s(self) -> float:
        """Return what no :meth:`seconds` exceeds: twice the longest way from any one place."""
        known = [place for place in self._places.values() if place is not None]
        return 2 * max((distance_m(known[0], place) for place in known), default=0.0) / self._speed_m_per_s
