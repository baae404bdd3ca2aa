"""The committed dashboards, as Grafana reads them: their panels and every query in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.dashboards.files import FOLDERS

PROJECT = Path(__file__).resolve().parents[2]


def dashboard_files(backend: str) -> list[Path]:
    """Return the files of one data source."""
    return sorted((PROJECT / FOLDERS[backend] / "dashboards").glob("*.json"))


UIDS = [path.stem for path in dashboard_files("postgresql")]


def load(uid: str, backend: str) -> dict[str, Any]:
    """Return one dashboard."""
    content: dict[str, Any] = json.loads((PROJECT / FOLDERS[backend] / "dashboards" / f"{uid}.json").read_text())
    return content


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the panels that show something, those of folded rows too."""
    found = []
    for panel in board["panels"]:
        found += [panel, *panel.get("panels", [])]
    return [panel for panel in found if panel["type"] not in {"row", "text"}]


def sql_of(target: dict[str, Any]) -> str:
    """Return the SQL of a query, whichever data source's it is."""
    sql: str = target.get("rawSql") or target["rawQueryText"]
    return sql


@dataclass(frozen=True, slots=True)
class Asked:
    """A query and what becomes of its answer."""

    name: str
    kind: str  # type of the panel; or variable, annotation
    sql: str
    owner: dict[str, Any]


def queries(board: dict[str, Any]) -> Iterator[Asked]:
    """Yield every query of a dashboard."""
    for panel in panels(board):
        for target in panel["targets"]:
            yield Asked(panel["title"], panel["type"], sql_of(target), panel)
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield Asked(f"${variable['name']}", "variable", variable["query"], variable)
    for mark in board["annotations"]["list"]:
        yield Asked(mark["name"], "annotation", sql_of(mark["target"]), mark)
