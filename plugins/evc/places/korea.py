"""Korean addresses: the smallest administrative division that an address names, and where its middle is.

Source: ``korea.tsv`` beside this file, which says where its names and areas come from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files

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
_FORMER = {"강원도": "강원특별자치도", "전라북도": "전북특별자치도", "제주도": "제주특별자치도"}
_COUNTRY = frozenset({"대한민국", "한국", "남한"})
_JOINED = (  # 서울특별시강남구, 수원시영통구
    re.compile(r"(특별자치시|특별자치도|특별시|광역시)(?=[가-힣])"),
    re.compile(r"(?<![가-힣])([가-힣]{2,3}시)(?=[가-힣]{1,4}구(?![가-힣]))"),
)


@dataclass(eq=False, slots=True)
class Division:
    """One division.

    :param point: latitude and longitude of its middle, degrees; None for a province
    """

    name: str
    point: tuple[float, float] | None
    parent: Division | None
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


@lru_cache(maxsize=1)
def divisions() -> Divisions:
    """Return the divisions, read once: 5,263, in about 15 ms and 2 MB."""
    provinces: dict[str, Division] = {}
    named: dict[str, list[Division]] = {}
    line_above: list[Division] = []
    for row in files(__package__).joinpath("korea.tsv").read_text(encoding="utf-8").splitlines():
        if row.startswith("#"):
            continue
        level = len(row) - len(row.lstrip("\t"))
        name, _, point = row.strip().partition(" ")
        latitude, _, longitude = point.partition(",")
        parent = line_above[level - 1] if level else None
        division = Division(name, (float(latitude), float(longitude)) if point else None, parent)
        (parent.children if parent else provinces)[name] = division
        line_above[level:] = [division]
        if name[-1] in "시군구도":
            named.setdefault(name, []).append(division)
    for short, full in _SHORT.items():
        if full.endswith("시"):
            named.setdefault(f"{short}시", []).append(provinces[full])
    for former, full in _FORMER.items():
        named[former] = [provinces[full]]
    return Divisions(provinces, named)


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
    return [word for word in re.split(r"[\s,()\[\]/·]+", address) if word]


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
    names = [word, re.sub(r"제?[0-9]+동$", "동", word)]  # 역삼1동 is a part of 역삼동
    if division.parent is None:
        names += [f"{word}시", f"{word}군"]
    for name in names:
        if name in division.children:
            return division.children[name]
    below = [
        child.children[name] for child in division.children.values() for name in names[:2] if name in child.children
    ]
    return below[0] if len({id(one) for one in below}) == 1 else None


def _consistent(found: list[Division], word: str) -> bool:
    """Return whether ``word`` is no division elsewhere, as far as provinces, cities, counties and districts go."""
    elsewhere = divisions().named.get(word)
    if not elsewhere:
        return True
    return any(one in division.line() for division in found for one in elsewhere)
