"""Time series: from which table, in which steps, and with their gaps.

A step is as long as a point of the panel's width (``$__interval_ms``), or longer where the reader wants that. By the step,
constant conditions choose one of the tables of samples; PostgreSQL drops the others when it plans, SQLite before it opens
them. What a rollup has not got yet, at most its last bucket, comes from the table below it. A step without any row is a
row of NULL, so that Grafana draws no line over it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from textwrap import indent

from tools.dashboards.dialects import Dialect

SAMPLES = "node_samples"
ROLLUPS = {
    300: "node_samples_5m",
    3600: "node_samples_1h",
    21_600: "node_samples_6h",
    86_400: "node_samples_1d",
    604_800: "node_samples_7d",
}
"""By the seconds of a bucket."""
_UNMADE_S = 1200
"""How long after its end a bucket is made at the latest, as long as ``maintain_metrics`` keeps its ten minutes."""
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
    buckets = [0, *ROLLUPS]
    parts = []
    for below, bucket_s, longer in zip([0, *buckets], buckets, [*ROLLUPS, 0], strict=False):
        conditions = [f"{step} >= {bucket_s}"] * bool(bucket_s) + [f"{step} < {longer}"] * bool(longer)
        when = f"{' AND '.join(conditions)} AND {where}"
        parts.append(
            f"SELECT {_columns(columns, bucket_s)} FROM {_table(bucket_s)}\nWHERE {when} AND {dialect.within('ts')}"
        )
        if bucket_s:
            parts.append(_unmade(dialect, columns, bucket_s, below, when))
    return "\nUNION ALL\n".join(parts)


def _table(bucket_s: int) -> str:
    return ROLLUPS.get(bucket_s, SAMPLES)


def _columns(columns: Mapping[str, str], bucket_s: int) -> str:
    given = {name: column if bucket_s else raw_name(column) for name, column in columns.items()}
    return ", ".join(["ts", "node_id", *(f"{column} AS {name}" for name, column in given.items())])


def _unmade(dialect: Dialect, columns: Mapping[str, str], bucket_s: int, below: int, when: str) -> str:
    """Return the SELECT of the last bucket, made of the table below; never more, for that would be a long way."""
    made = f"(SELECT coalesce(max(ts), 0) + {bucket_s} FROM {_table(bucket_s)})"
    since = dialect.greatest(made, f"{dialect.to_s} - {bucket_s + _UNMADE_S}")
    values = [
        f"{_AGGREGATES.get(column.rpartition('_')[2], 'max')}({column if below else raw_name(column)}) AS {name}"
        for name, column in columns.items()
    ]
    return (
        f"SELECT {', '.join([f'ts / {bucket_s} * {bucket_s} AS ts', 'node_id', *values])} FROM {_table(below)}\n"
        f"WHERE {when} AND {dialect.within_since('ts', since)}\nGROUP BY ts / {bucket_s}, node_id"
    )


_AGGREGATES = {"min": "min", "avg": "avg", "ratio": "avg"}
"""By the end of a column's name; of all others the greatest."""


def wide(dialect: Dialect, source: str, values: Mapping[str, str], *given: str, at_end: bool = False) -> str:
    """Return the query of a series for each value, a column each.

    :param source: a SELECT with ``ts``
    :param values: by the name of the series, an aggregate of the rows of a step
    :param given: tables of the query's own that ``source`` reads, ``name AS (SELECT ...)``
    :param at_end: a step's time is its end, as heat maps want it, not its begin
    """
    tables = "".join(f",\n{table}" for table in given)
    columns = ", ".join(f'{aggregate} AS "{name}"' for name, aggregate in values.items())
    names = "".join(f', "{name}"' for name in values)
    time = f"time + {step_s(dialect)} AS time" if at_end else "time"
    return (
        f"{_grid(dialect)}{tables},\npoints AS (\n"
        f"  SELECT {bucket(dialect)} AS time, {columns}\n"
        f"  FROM (\n{indent(source, '    ')}\n  ) AS readings\n  GROUP BY 1\n)\n"
        f"SELECT {time}{names} FROM points\n"
        f"UNION ALL\nSELECT {time}{', NULL' * len(values)} FROM grid\n{_GAPS}\nORDER BY 1"
    )


def long(dialect: Dialect, source: str, label: str, value: str, *given: str) -> str:
    """Return the query of a series for each value of a column.

    :param source: a SELECT with ``ts`` and the column
    :param label: the column; series are named by it
    :param value: an aggregate of the rows of a step
    :param given: tables of the query's own that ``source`` reads, ``name AS (SELECT ...)``
    """
    tables = "".join(f",\n{table}" for table in given)
    return (
        f"{_grid(dialect)}{tables},\npoints AS (\n"
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
