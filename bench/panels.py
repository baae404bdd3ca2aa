"""The queries of the dashboards, as Grafana sends them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.child import PROJECT

DASHBOARDS = {"postgresql": PROJECT / "grafana" / "dashboards", "sqlite": PROJECT / "grafana" / "sqlite" / "dashboards"}
_POINTS = 1_000  # of a panel as wide as half a screen: Grafana asks for an interval that gives about as many
_STEPS_S = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)
_UNITS_S = {"s": 1, "m": 60, "h": 3600}
_FILTER = re.compile(r"\$__unixEpochFilter\(([\w.]+)\)")
_VARIABLE = re.compile(r"\$\{(\w+)(?::\w+)?\}")


@dataclass(frozen=True, slots=True)
class Panel:
    """One query of one panel.

    :param points: at most so many, as far as the dashboard says
    :param least_s: the shortest interval that the dashboard allows
    """

    dashboard: str
    title: str
    sql: str
    points: int = _POINTS
    least_s: int = 1


def panels(backend: str) -> list[Panel]:
    """Return every query of every dashboard; none where the project has no dashboards."""
    return [panel for file in sorted(DASHBOARDS[backend].glob("*.json")) for panel in _panels(file)]


def _panels(file: Path) -> Iterator[Panel]:
    board: dict[str, Any] = json.loads(file.read_text())
    for panel in _flat(board["panels"]):
        for target in panel.get("targets", []):
            if sql := target.get("rawSql") or target.get("queryText"):
                points, least = panel.get("maxDataPoints") or _POINTS, panel.get("interval") or "1s"
                yield Panel(file.stem, panel.get("title", ""), sql, points, int(least[:-1]) * _UNITS_S[least[-1]])


def _flat(given: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for panel in given:
        yield panel
        yield from _flat(panel.get("panels", []))


def as_sent(panel: Panel, begin_ts: int, end_ts: int, variables: dict[str, str]) -> str:
    """Return a query as Grafana sends it for a range of time.

    :param variables: by name; one that is not there is ``*``, which stands for all
    """
    wanted_s = max(panel.least_s, (end_ts - begin_ts) / panel.points)
    interval_s = next((step for step in _STEPS_S if step >= wanted_s), _STEPS_S[-1])
    told = {"__interval_ms": str(interval_s * 1000), "__unixEpochFrom()": str(begin_ts), "__unixEpochTo()": str(end_ts)}
    told |= {"__from": str(begin_ts * 1000), "__to": str(end_ts * 1000)}
    sql = _FILTER.sub(rf"\1 >= {begin_ts} AND \1 <= {end_ts}", panel.sql)
    for name, value in told.items():
        sql = sql.replace(f"${name}", value).replace(f"${{{name}}}", value)
    return _VARIABLE.sub(lambda match: f"'{variables.get(match[1], '*')}'", sql)
