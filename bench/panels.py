"""The queries of the dashboards and of the alert rules, as Grafana sends them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.child import PROJECT

FOLDERS = {"postgresql": PROJECT / "grafana", "sqlite": PROJECT / "grafana" / "sqlite"}
_POINTS = 1_000  # of a panel as wide as half a screen: Grafana asks for an interval that gives about as many
# roundInterval in packages/grafana-data/src/datetime/rangeutil.ts: below the first, the second; seconds
_ROUNDED_S = (
    (1.5, 1), (3.5, 2), (7.5, 5), (12.5, 10), (17.5, 15), (25, 20), (45, 30), (90, 60), (210, 120), (450, 300),
    (750, 600), (1050, 900), (1500, 1200), (2700, 1800), (5400, 3600), (9000, 7200), (16_200, 10_800),
    (32_400, 21_600), (86_400, 43_200), (604_800, 86_400), (1_814_400, 604_800), (3_628_800, 2_592_000),
)  # fmt: skip
_LONGEST_S = 31_536_000
_UNITS_S = {"s": 1, "m": 60, "h": 3600}
_FILTER = re.compile(r"\$__unixEpochFilter\(([\w.]+)\)")
_VARIABLE = re.compile(r"\$\{(\w+)(?::\w+)?\}")


@dataclass(frozen=True, slots=True)
class Panel:
    """One query of a panel, a variable, an annotation or an alert rule.

    :param points: at most so many, as far as the dashboard says
    :param least_s: the shortest interval that the dashboard allows
    :param range_s: what an alert rule looks back; None: the range of the dashboard
    """

    dashboard: str
    title: str
    sql: str
    points: int = _POINTS
    least_s: int = 1
    range_s: int | None = None


def panels(backend: str) -> list[Panel]:
    """Return every query of every dashboard, with its variables and annotations."""
    files = sorted((FOLDERS[backend] / "dashboards").glob("*.json"))
    return [panel for file in files for panel in _of_dashboard(file)]


def alerts(backend: str) -> list[Panel]:
    """Return the query of every alert rule."""
    document = yaml.safe_load((FOLDERS[backend] / "provisioning" / "alerting" / "rules.yaml").read_text())
    found = []
    for rule in (rule for group in document["groups"] for rule in group["rules"]):
        asked = rule["data"][0]
        sql = _sql(asked["model"])
        found.append(Panel("alert", rule["title"], sql, range_s=asked["relativeTimeRange"]["from"]))
    return found


def _of_dashboard(file: Path) -> Iterator[Panel]:
    board: dict[str, Any] = json.loads(file.read_text())
    for panel in _flat(board["panels"]):
        for target in panel.get("targets", []):
            points, least = panel.get("maxDataPoints") or _POINTS, panel.get("interval") or "1s"
            yield Panel(file.stem, panel.get("title", ""), _sql(target), points, int(least[:-1]) * _UNITS_S[least[-1]])
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield Panel(file.stem, f"${variable['name']}", variable["query"])
    for mark in board["annotations"]["list"]:
        yield Panel(file.stem, f"marks: {mark['name']}", _sql(mark["target"]))


def _sql(target: dict[str, Any]) -> str:
    sql: str = target.get("rawSql") or target["queryText"]
    return sql


def _flat(given: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for panel in given:
        yield panel
        yield from _flat(panel.get("panels", []))


def step_s(panel: Panel, range_s: int) -> int:
    """Return the interval that Grafana gives a panel over a range."""
    wanted_s = range_s / panel.points
    rounded_s = next((step for limit, step in _ROUNDED_S if wanted_s < limit), _LONGEST_S)
    return max(panel.least_s, rounded_s)


def as_sent(panel: Panel, begin_ts: int, end_ts: int, variables: dict[str, str]) -> str:
    """Return a query as Grafana sends it for a range of time.

    :param variables: by name; one that is not there is ``*``, which stands for all
    """
    interval_ms = step_s(panel, end_ts - begin_ts) * 1000
    told = {"__interval_ms": str(interval_ms), "__unixEpochFrom()": str(begin_ts), "__unixEpochTo()": str(end_ts)}
    told |= {"__from": str(begin_ts * 1000), "__to": str(end_ts * 1000)}
    sql = _FILTER.sub(rf"\1 >= {begin_ts} AND \1 <= {end_ts}", panel.sql)
    for name, value in told.items():
        sql = sql.replace(f"${name}", value).replace(f"${{{name}}}", value)
    return _VARIABLE.sub(lambda match: f"'{variables.get(match[1], '*')}'", sql)
