"""Result lines: each one, or counted by the hour, and percentiles of what was counted.

Charts read the hours where a step is an hour or longer, tables where the range is two days or longer. As in ``series``
the conditions are constants, so one of the two tables is read. An hour is there some minutes after its end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from textwrap import indent

from evc.store.tables import LATENCIES_MS, latency_columns
from tools.dashboards import series
from tools.dashboards.dialects import Dialect

LINES = "inference_results"
RUNS_1H = "inference_runs_1h"
"""By hour and run: lines, errors, frames, their latencies."""
KINDS_1H = "inference_results_1h"
"""By hour, run and kind: lines and their values."""
HOUR_S = 3600
LONG_S = 2 * 86_400
POINTS = 150
"""Of a chart with a series for each node: so many that a week is drawn in steps of an hour, from rollups."""


def by_step(dialect: Dialect, lines: str, hours: str) -> str:
    """Return the rows of one of two SELECTs, each of which ends with a condition: which, the step of a chart says."""
    step = series.step_s(dialect)
    return f"{lines}\nAND {step} < {HOUR_S}\nUNION ALL\n{hours}\nAND {step} >= {HOUR_S}"


def is_long(dialect: Dialect) -> str:
    """Return the condition that a table reads the hours."""
    return f"{dialect.to_s} - {dialect.from_s} >= {LONG_S}"


def by_range(dialect: Dialect, lines: str, hours: str) -> str:
    """Return the rows of one of two SELECTs, each of which ends with a condition: which, the range says."""
    return f"{lines}\nAND NOT ({is_long(dialect)})\nUNION ALL\n{hours}\nAND {is_long(dialect)}"


def percentiles(hours: str, groups: Sequence[str], shares: Mapping[str, float]) -> str:
    """Return a SELECT of percentiles, by group, of latencies that were counted in classes.

    Within a class latencies are taken for spread evenly, so a percentile is at most a quarter off, mostly much less; what
    is above the last class counts as its bound.

    :param hours: a SELECT of the groups and the columns that count
    :param shares: by the name of the column
    """
    names = ", ".join(groups)
    sums = ", ".join(f"sum({column}) AS {column}" for column in latency_columns())
    bounds = pairwise((0, *LATENCIES_MS, LATENCIES_MS[-1]))
    classes = ", ".join(f"({place}, {float(low)}, {float(high)})" for place, (low, high) in enumerate(bounds))
    count = " ".join(f"WHEN {place} THEN {column}" for place, column in enumerate(latency_columns()))
    counted = (
        f"SELECT {names}, c.column1 AS place, c.column2 AS low, c.column3 AS high,\n"
        f"  CAST(CASE c.column1 {count} END AS double precision) AS n\n"
        f"FROM (\n  SELECT {names}, {sums}\n  FROM (\n{indent(hours, '    ')}\n  ) AS h GROUP BY {names}\n) AS s\n"
        f"CROSS JOIN (VALUES {classes}) AS c"
    )
    placed = (
        f"SELECT {names}, low, high, n, sum(n) OVER (PARTITION BY {names} ORDER BY place) AS upto,\n"
        f"  sum(n) OVER (PARTITION BY {names}) AS total\nFROM (\n{indent(counted, '  ')}\n) AS counted WHERE n > 0"
    )
    values = ", ".join(f"{_percentile(share)} AS {name}" for name, share in shares.items())
    return f"SELECT {names}, {values}\nFROM (\n{indent(placed, '  ')}\n) AS placed GROUP BY {names}"


def _percentile(share: float) -> str:
    before = f"({share} * total - (upto - n))"  # how many of its class are below
    return f"min(low + (high - low) * {before} / n) FILTER (WHERE {before} > 0 AND {before} <= n)"
