"""What is watched of a node, and how it is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

_MORE_DIGITS = 2


def _share(value: float, more: int = 0) -> str:
    return f"{value:.{2 + more}f}"


def _celsius(value: float, more: int = 0) -> str:
    return f"{value:.{more}f} °C"


def _seconds(value: float, more: int = 0) -> str:
    return f"{value:.{2 + more}f} s"


def _rate(value: float, more: int = 0) -> str:
    for unit, size in (("GB/s", 1e9), ("MB/s", 1e6), ("kB/s", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.{3 + more}g} {unit}"
    return f"{value:.{more}f} B/s"


@dataclass(frozen=True, slots=True)
class Watched:
    """A quantity of a node.

    :param name: as events name it
    :param least: a deviation smaller than this, in its unit, is nothing; of ``is_ratio``, a factor
    :param lasting: buckets that a deviation has to last: jobs of half an hour come at any hour on a good node
    :param sides: which deviations count
    :param is_ratio: deviations are factors, not differences: rates range over powers of ten
    :param show: of a value, with as many more digits than usual
    """

    name: str
    least: float
    lasting: int
    sides: Literal["high", "both"]
    show: Callable[[float, int], str]
    is_ratio: bool = False

    def show_range(self, low: float, high: float) -> str:
        """Return both with as many digits as tell one from the other; one where none do."""
        for more in range(_MORE_DIGITS + 1):
            first, last = self.show(low, more), self.show(high, more)
            if first != last:
                return f"{first} to {last}"
        return self.show(low, 0)


WATCHED = (
    Watched("cpu", 0.10, 12, "both", _share),
    Watched("memory", 0.05, 3, "high", _share),
    Watched("storage", 0.03, 3, "high", _share),
    Watched("temperature", 4.0, 9, "high", _celsius),
    Watched("receive", 4.0, 9, "both", _rate, is_ratio=True),
    Watched("transmit", 4.0, 9, "both", _rate, is_ratio=True),
    Watched("disk pressure", 0.10, 9, "high", _share),
    Watched("answer time", 0.5, 3, "high", _seconds),
)
"""In the order of the arrays. Memory and storage are shares in use; answer time is what a sweep of the node took."""
