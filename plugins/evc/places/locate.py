"""Addresses to places: what is known, then the service, then the gazetteer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from evc.errors import GeocodingError
from evc.fleet.log import Log
from evc.places.place import Place

MAX_FAILURES = 2
RETRY_AFTER_S = 86_400


class Known(Protocol):
    """An earlier answer, as the ``geocodes`` table keeps it."""

    @property
    def latitude(self) -> float: ...

    @property
    def longitude(self) -> float: ...

    @property
    def source(self) -> str: ...

    @property
    def ts(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Located:
    """What came of one address.

    :param place: None where nobody knows it
    :param fresh: it was not known before: keep it
    :param asked: the service has answered, with this place or with none; else it was not reached, or there is none
    """

    address: str
    place: Place | None
    fresh: bool
    asked: bool


def locate(
    addresses: Iterable[str],
    known: Callable[[str], Known | None],
    online: Callable[[str], Place | None] | None,
    offline: Callable[[str], Place | None],
    *,
    now_ts: int,
    log: Log,
) -> Iterator[Located]:
    """Yield the place of each different address, one by one: keep each as it comes, the service takes a second for one.

    An answer of the service is never asked for again; one of the gazetteer is, a day later. A service that fails twice
    running is not asked any more, which the log says in one line.

    :param online: asks the service; None where there is none
    """
    failures = 0
    for address in dict.fromkeys(addresses):
        before = known(address)
        if before and (before.source == "nominatim" or now_ts - before.ts < RETRY_AFTER_S):
            yield Located(address, _earlier(before), fresh=False, asked=before.source == "nominatim")
            continue
        place, asked = None, False
        if online and failures < MAX_FAILURES:
            try:
                place, asked, failures = online(address), True, 0
            except GeocodingError as error:
                failures += 1
                if failures == MAX_FAILURES:
                    log.warning("%s; the rest of this run goes on with the offline gazetteer", error)
        place = place or offline(address) or (_earlier(before) if before else None)
        yield Located(address, place, fresh=place is not None, asked=asked)


def _earlier(known: Known) -> Place:
    return Place(known.latitude, known.longitude, known.source, "", "")
