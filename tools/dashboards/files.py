"""Which files there are: everything below ``grafana/``, by its path."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from tools.dashboards import boards, provisioning
from tools.dashboards.dialects import DIALECTS, Dialect

ROOT = PurePosixPath("grafana")
FOLDERS = {"postgresql": ROOT, "sqlite": ROOT / "sqlite"}
"""PostgreSQL comes first; only one of the two belongs into one Grafana, for the uids are the same."""


def dashboards(dialect: Dialect) -> Iterator[dict[str, Any]]:
    """Yield each dashboard as Grafana reads it, by file name of its module."""
    for module in sorted(module.name for module in pkgutil.iter_modules(boards.__path__)):
        made = importlib.import_module(f"{boards.__name__}.{module}").board(dialect)
        yield json.loads(json.dumps(made.build(), cls=JSONEncoder))


def files() -> dict[PurePosixPath, str]:
    """Return the content of every file, by its path from the project's folder."""
    made = {}
    for dialect in DIALECTS:
        folder = FOLDERS[dialect.name]
        numbered = {board["uid"]: _numbered(board) for board in dashboards(dialect)}
        for uid, board in numbered.items():
            text = json.dumps(board, indent=2, ensure_ascii=False, sort_keys=True)
            made[folder / "dashboards" / f"{uid}.json"] = f"{text}\n"
        for path, text in provisioning.files(dialect, _panel_finder(numbered)).items():
            made[folder / "provisioning" / path] = text
    return made


def _panel_finder(boards_by_uid: Mapping[str, dict[str, Any]]) -> Callable[[str, str], int]:
    def number(uid: str, title: str) -> int:
        """Return the last of that title: a chart stands below the number that says the same of now."""
        found: int = [panel["id"] for panel in _panels(boards_by_uid[uid]) if panel.get("title") == title][-1]
        return found

    return number


def write(root: Path, made: Mapping[PurePosixPath, str]) -> None:
    """Write the files, and delete what stood below ``grafana/`` and is no longer made."""
    wanted = {root / path for path in made}
    for there in (root / ROOT).rglob("*"):
        if there.is_file() and there not in wanted:
            there.unlink()
    for path, text in made.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def _numbered(board: dict[str, Any]) -> dict[str, Any]:
    """Give every panel its number: links and alert rules name panels by it."""
    for number, panel in enumerate(_panels(board), 1):
        panel["id"] = number
    return board


def _panels(board: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels", [])
