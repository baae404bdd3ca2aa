"""Time series: from which table, in which steps, and with their gaps.

A step is as long as a point of the panel's width (``$__interval_ms``), or longer where the reader wants that. By the step,
constant conditions choose one of the three tables of samples; PostgreSQL drops the other two when it plans, SQLite before
it opens them. A step without any row is a row of NULL, so that Grafana draws no line over it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from textwrap import indent

from tools.dashboards.dialects import Dialect

ROLLUPS = {300: "node_samples_5m", 3600: "node_samples_1h"}
_RAW_NAMES = {"up_ratio": "up", "throttled_ratio": "throttled"}


def step_s(dialect: Dialect) -> str:
    """Return the seconds of a step, a constant."""
    return dialect.greatest("$__interval_ms / 1000", "CAST(${interval:sqlstring} AS bigint)")


def bucket(dialect: Dialect, column: str = "ts") -> str:
    """Return the begin of the step that a time falls into."""
    step = step_s(dialect)
    return f"{column} / {step} * {step}"


def raw_name(column: str) -> str:
    """Return what a rollup's column is called in ``node_samples``."""
    return _RAW_NAMES.get(column) or re.sub(r"_(min|avg|max)$", "", column)


def readings(dialect: Dialect, columns: Mapping[str, str], where: str) -> str:
    """Return a SELECT of ``ts``, ``node_id`` and columns of the samples within the range, whichever table serves.

    :param columns: by the name they shall have, what the rollups call them
    :param where: a condition on ``node_id``
    """
    step = step_s(dialect)
    rolled = ", ".join(["ts", "node_id", *(f"{column} AS {name}" for name, column in columns.items())])
    raw = ", ".join(["ts", "node_id", *(f"{raw_name(column)} AS {name}" for name, column in columns.items())])
    within = f"{dialect.within('ts')} AND {where}"
    return "\nUNION ALL\n".join(
        (
            f"SELECT {raw} FROM node_samples\nWHERE {step} < 300 AND {within}",
            f"SELECT {rolled} FROM node_samples_5m\nWHERE {step} >= 300 AND {step} < 3600 AND {within}",
            f"SELECT {rolled} FROM node_samples_1h\nWHERE {step} >= 3600 AND {within}",
        )
    )


def wide(dialect: Dialect, source: str, values: Mapping[str, str]) -> str:
    """Return the query of a series for each value, a column each.

    :param source: a SELECT with ``ts``
    :param values: by the name of the series, an aggregate of the rows of a step
    """
    columns = ", ".join(f'{aggregate} AS "{name}"' for name, aggregate in values.items())
    return (
        f"{_grid(dialect)},\npoints AS (\n"
        f"  SELECT {bucket(dialect)} AS time, {columns}\n"
        f"  FROM (\n{indent(source, '    ')}\n  ) AS readings\n  GROUP BY 1\n)\n"
        f"SELECT * FROM points\nUNION ALL\nSELECT time{', NULL' * len(values)} FROM grid\n{_GAPS}\nORDER BY 1"
    )


def long(dialect: Dialect, source: str, label: str, value: str) -> str:
    """Return the query of a series for each value of a column.

    :param source: a SELECT with ``ts`` and the column
    :param label: the column; series are named by it
    :param value: an aggregate of the rows of a step
    """
    return (
        f"{_grid(dialect)},\npoints AS (\n"
        f"  SELECT {bucket(dialect)} AS time, {label}, {value} AS value\n"
        f"  FROM (\n{indent(source, '    ')}\n  ) AS readings\n  GROUP BY 1, 2\n)\n"
        f"SELECT time, {label}, value FROM points\n"
        f"UNION ALL\nSELECT time, (SELECT min({label}) FROM points), NULL FROM grid\n{_GAPS}\nORDER BY 1, 2"
    )


_GAPS = "WHERE time NOT IN (SELECT time FROM points) AND EXISTS (SELECT 1 FROM points)"


def _grid(dialect: Dialect) -> str:
    step = step_s(dialect)
    return (
        f"WITH RECURSIVE grid(time) AS (\n  SELECT {bucket(dialect, dialect.from_s)}\n"
        f"  UNION ALL\n  SELECT time + {step} FROM grid WHERE time + {step} <= {dialect.to_s}\n)"
    )
