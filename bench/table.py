"""One table of figures, for a terminal or as Markdown."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Goal:
    """What a row is to reach.

    :param text: e.g. ``below 300``
    :param reached: whether it is
    """

    text: str
    reached: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    :param value: a number with its unit in ``unit``
    :param times: this figure divided by EVC's own one; None where there is nothing to compare
    """

    what: str
    value: float
    unit: str
    times: float | None = None
    goal: Goal | None = None


@dataclass(slots=True)
class Section:
    """The rows of one figure.

    :param remarks: what a reader must know to understand them, a line each
    """

    title: str
    rows: list[Row] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def add(self, what: str, value: float, unit: str, times: float | None = None, goal: Goal | None = None) -> None:
        """Append a row."""
        self.rows.append(Row(what, value, unit, times, goal))


HEADINGS = ("figure", "value", "unit", "x EVC", "to reach")


def below(limit: float, value: float, unit: str = "") -> Goal:
    """Return the goal of staying below ``limit``."""
    return Goal(f"below {number(limit)}{unit and ' '}{unit}", value < limit)


def at_least(limit: float, value: float, unit: str = "x") -> Goal:
    """Return the goal of reaching ``limit``."""
    return Goal(f"at least {number(limit)}{unit}", value >= limit)


def number(value: float) -> str:
    """Return ``value`` with three digits that count, or as a whole number with thousands apart."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 or not value else f"{value:.2e}"


def _cells(row: Row) -> tuple[str, ...]:
    goal = f"{row.goal.text}: {'yes' if row.goal.reached else 'NO'}" if row.goal else ""
    times = f"{number(row.times)}" if row.times is not None else ""
    return row.what, number(row.value), row.unit, times, goal


def as_text(sections: Sequence[Section]) -> str:
    """Return the sections as one table of aligned columns."""
    bodies = [[_cells(row) for row in section.rows] for section in sections]
    lines = [HEADINGS, *(cells for body in bodies for cells in body)]
    widths = [max(_width(cells[column]) for cells in lines) for column in range(len(HEADINGS))]
    out = [_line(HEADINGS, widths), "-" * (sum(widths) + 2 * len(widths) - 2)]
    for section, body in zip(sections, bodies, strict=True):
        out += [
            "",
            section.title,
            *(_line(cells, widths) for cells in body),
            *(f"  {text}" for text in section.remarks),
        ]
    return "\n".join(out)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    what, value, *rest = (
        text.rjust(width - _width(text) + len(text))
        if column in (1, 3)
        else text.ljust(width - _width(text) + len(text))
        for column, (text, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join((what, value, *rest)).rstrip()


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def as_markdown(sections: Sequence[Section]) -> str:
    """Return the sections as Markdown tables, remarks below each."""
    out = []
    for section in sections:
        out += [f"### {section.title}", "", _markdown_line(HEADINGS), "|---|--:|---|--:|---|"]
        out += [_markdown_line(_cells(row)) for row in section.rows]
        out += ["", *(f"- {text}" for text in section.remarks), ""] if section.remarks else [""]
    return "\n".join(out).rstrip()


def _markdown_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
