"""Result lines: each one, or counted by five minutes or by the hour, and percentiles of what was counted.

Charts choose by their step, numbers and tables by the range. As in ``series`` the conditions are constants, so one of the
tables is read; what is not counted yet, little more than an hour, comes from the lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from textwrap import indent

from evc.store.tables import LATENCIES_MS, latency_columns
from tools.dashboards import series
from tools.dashboards.dialects import Dialect

LINES = "inference_results"
POINTS = 80
"""Of a chart with a series for each node: a hundred of them are some 8,000 points, a day is drawn in steps of 20 min."""
_HOUR_S = 3600
_UNMADE_S = _HOUR_S + 1200
"""How far back what is not counted yet begins at the most, as long as ``maintain_metrics`` keeps its ten minutes."""


@dataclass(frozen=True, slots=True)
class Counts:
    """A table that lines are counted in.

    :param bucket_s: of a row, and the shortest step of a chart that reads the table
    :param range_s: the shortest range that numbers and tables read it over
    """

    table: str
    bucket_s: int
    range_s: int


RUNS = (Counts("inference_runs_5m", 300, 6 * _HOUR_S), Counts("inference_runs_1h", _HOUR_S, 48 * _HOUR_S))
"""By run: lines, errors, frames, their latencies."""
KINDS = (Counts("inference_results_1h", _HOUR_S, 6 * _HOUR_S),)
"""By run and kind: lines and their values."""
Counted = Callable[[str], str]
"""Returns the SELECT of a table of counts; it ends with a condition."""
Told = Callable[[str | None], str]
"""Returns the SELECT of the lines since a time, of all in the range for None; it ends with a condition."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Which tables a query reads.

    :param size: a constant of the query, by which one is chosen
    :param least: by table, the least size that it is for, the smaller one first
    """

    dialect: Dialect
    size: str
    least: Mapping[Counts, int]

    def are_lines(self) -> str:
        """Return the condition that nothing is counted."""
        return f"{self.size} < {min(self.least.values())}"

    def counted(self, of: Counted) -> str:
        """Return the rows of counts."""
        return "\nUNION ALL\n".join(f"{of(each.table)}\nAND {when}" for each, when in self._each())

    def uncounted(self, told: Told) -> str:
        """Return the lines that are newer than all counts."""
        return "\nUNION ALL\n".join(f"{told(self._since(each))}\nAND {when}" for each, when in self._each())

    def all(self, told: Told, of: Counted) -> str:
        """Return the rows of lines, or those of counts and of the lines that are not in them yet."""
        lines = f"{told(None)}\nAND {self.are_lines()}"
        return "\nUNION ALL\n".join((lines, self.counted(of), self.uncounted(told)))

    def _each(self) -> list[tuple[Counts, str]]:
        ends = [f" AND {self.size} < {beyond}" for beyond in list(self.least.values())[1:]] + [""]
        return [
            (each, f"{self.size} >= {least}{end}") for (each, least), end in zip(self.least.items(), ends, strict=True)
        ]

    def _since(self, counts: Counts) -> str:
        made = f"(SELECT coalesce(max(ts), 0) + {counts.bucket_s} FROM {counts.table})"
        return self.dialect.greatest(made, f"{self.dialect.to_s} - {_UNMADE_S}")


def by_step(dialect: Dialect, counts: Sequence[Counts]) -> Sources:
    """Return what a chart reads."""
    return Sources(dialect, series.step_s(dialect), {each: each.bucket_s for each in counts})


def by_range(dialect: Dialect, counts: Sequence[Counts]) -> Sources:
    """Return what a number or a table reads."""
    return Sources(dialect, f"{dialect.to_s} - {dialect.from_s}", {each: each.range_s for each in counts})


def within(dialect: Dialect, column: str, since: str | None) -> str:
    """Return the condition that a time lies in the range, in the part of it that begins with ``since``."""
    return dialect.within(column) if since is None else dialect.within_since(column, since)


def percentiles(counted: str, lines: str, groups: Sequence[str], shares: Mapping[str, float]) -> tuple[str, ...]:
    """Return tables of a query's own, the last of which, ``percentiles``, has those of latencies in classes, by group.

    Within a class latencies are taken for spread evenly, so a percentile is at most a quarter off, mostly much less; what
    is above the last class counts as its bound.

    :param counted: a SELECT of the groups and the columns that count
    :param lines: a SELECT of the groups and ``latency_ms``: latencies that are not in classes yet
    :param shares: by the name of the column
    """
    names = ", ".join(groups)
    sums = ", ".join(f"sum({column}) AS {column}" for column in latency_columns())
    bounds = (0, *LATENCIES_MS, LATENCIES_MS[-1])
    classes = ", ".join(f"({place}, {float(low)}, {float(high)})" for place, (low, high) in enumerate(pairwise(bounds)))
    values = ", ".join(f"{_percentile(share)} AS {name}" for name, share in shares.items())
    # tables, not one in the other: SQLite reads no deeper
    tables = {
        "counted": counted,
        "summed": f"SELECT {names}, {sums} FROM counted GROUP BY {names}",
        "uncounted": lines,
        "in_classes": f"{_places(names)}\nUNION ALL\nSELECT {names}, {_place()} AS place, 1 AS n FROM uncounted",
        "by_class": f"SELECT {names}, place, CAST(sum(n) AS double precision) AS n FROM in_classes GROUP BY {names}, place",
        "placed": (
            f"SELECT {names}, c.column2 AS low, c.column3 AS high, n,\n"
            f"  sum(n) OVER (PARTITION BY {names} ORDER BY place) AS upto, sum(n) OVER (PARTITION BY {names}) AS total\n"
            f"FROM by_class JOIN (VALUES {classes}) AS c ON c.column1 = place WHERE n > 0"
        ),
        "percentiles": f"SELECT {names}, {values} FROM placed GROUP BY {names}",
    }
    return tuple(f"{name} AS (\n{indent(sql, '  ')}\n)" for name, sql in tables.items())


def _places(names: str) -> str:
    """Return a row for each group and class, instead of a column for each class."""
    count = " ".join(f"WHEN {place} THEN {column}" for place, column in enumerate(latency_columns()))
    places = ", ".join(f"({place})" for place in range(len(latency_columns())))
    return f"SELECT {names}, p.column1 AS place, CASE p.column1 {count} END AS n\nFROM summed CROSS JOIN (VALUES {places}) AS p"


def _place() -> str:
    """Return the class of ``latency_ms``."""
    upto = " ".join(f"WHEN latency_ms <= {bound} THEN {place}" for place, bound in enumerate(LATENCIES_MS))
    return f"CASE {upto} ELSE {len(LATENCIES_MS)} END"


def _percentile(share: float) -> str:
    before = f"({share} * total - (upto - n))"  # how many of its class are below
    return f"min(low + (high - low) * {before} / n) FILTER (WHERE {before} > 0 AND {before} <= n)"
