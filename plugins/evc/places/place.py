"""A place on the map."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Where an address is.

    :param latitude: degrees north, WGS 84
    :param longitude: degrees east, WGS 84
    :param source: who said so, ``nominatim`` or ``gazetteer``
    :param name: what was found, e.g. ``경기도 수원시 영통구``
    :param precision: what ``name`` is: ``address`` is as good as the service knows it; of a ``town``, ``district``,
        ``county`` or ``city`` it is the middle
    """

    latitude: float
    longitude: float
    source: str
    name: str
    precision: str
