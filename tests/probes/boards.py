"""Captures of boards: what a node printed for one probe, and what the probe must make of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, Boolean, Float, Integer, SmallInteger, String, Text

from evc.probes.answer import Answer, parse_answer
from evc.probes.probe import Before, Sample
from evc.store import tables

CAPTURES = Path(__file__).parent / "captures"
MAX_TEXT = 255


@dataclass(frozen=True)
class Capture:
    """One ``<probe>/<board>.txt`` and its ``.json``.

    :param before: counters and ``elapsed_s`` of the reading before, if the capture has one
    :param sample: the fields of the sample that are not empty; None where the node has nothing of the kind
    :param error: the message of the ``ParseError`` that must be raised instead
    """

    probe: str
    board: str
    stdout: bytes
    thermal_unit: str
    before: Before | None
    sample: dict[str, Any] | None
    error: str | None

    @property
    def answer(self) -> Answer:
        return parse_answer(self.stdout, self.thermal_unit)


def load(path: Path) -> Capture:
    """Load the capture whose ``.txt`` is ``path``."""
    told = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    before = Before(**told["before"]) if "before" in told else None
    thermal_unit = told.get("thermal_unit", "millidegree_celsius")
    return Capture(
        path.parent.name, path.stem, path.read_bytes(), thermal_unit, before, told.get("sample"), told.get("error")
    )


def all_captures() -> list[Capture]:
    """Load every capture, in the order of probes and boards."""
    return [load(path) for path in sorted(CAPTURES.glob("*/*.txt"))]


def told(sample: Sample | None) -> dict[str, Any] | None:
    """Return the fields of ``sample`` that are not empty, as JSON gives them back."""
    if sample is None:
        return None
    fields = {name: getattr(sample, name) for name in ("columns", "details", "counters", "facts", "problems")}
    kept = {name: value for name, value in fields.items() if value not in (None, {}, [], ())}
    return dict(json.loads(json.dumps(kept, allow_nan=False)))


def check_fits(sample: Sample) -> None:
    """Assert that the database takes every value of ``sample``: known columns, right types, lengths and bounds."""
    json.dumps(sample.counters, allow_nan=False)
    _check_row("node_samples", sample.columns)
    _check_row("nodes", sample.facts)
    for table, rows in sample.details.items():
        columns = tables.metadata.tables[table].columns
        own_key = [column.name for column in columns if column.primary_key and column.name not in ("ts", "node_id")]
        keys = [tuple(row[name] for name in own_key) for row in rows]
        assert len(keys) == len(set(keys)), f"{table} twice the same key: {keys}"
        assert len(rows) <= 64
        for row in rows:
            _check_row(table, row)
            required = {column.name for column in columns if not column.nullable} - {"ts", "node_id"}
            assert required <= {name for name, value in row.items() if value is not None}
    for problem in sample.problems:
        assert problem.isprintable()
        assert len(problem) <= 300


def _check_row(table: str, row: Mapping[str, Any]) -> None:
    columns = tables.metadata.tables[table].columns
    for name, value in row.items():
        assert name in columns, f"{table} has no column {name}"
        if value is not None:
            _check_value(columns[name].type, name, value)


def _check_value(kind: Any, name: str, value: Any) -> None:
    if isinstance(kind, Float):
        assert isinstance(value, (int, float))
        assert math.isfinite(value)
        assert -300 < value < 1e12
        assert not name.endswith("_ratio") or 0 <= value <= 1
    elif isinstance(kind, Boolean):
        assert isinstance(value, bool)
    elif isinstance(kind, (Integer, BigInteger, SmallInteger)):
        assert isinstance(value, int)
        assert 0 <= value < (2**63 if isinstance(kind, BigInteger) else 2**31)
    else:
        assert isinstance(kind, (String, Text))
        assert isinstance(value, str)
        assert value.isprintable()
        assert 0 < len(value) <= (kind.length or MAX_TEXT)
