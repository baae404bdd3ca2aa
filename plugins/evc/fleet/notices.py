"""What people are told of events: one message for all that is new, storms as one line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

STORM = 5
"""From more events of one kind on they share a line."""
_NAMED = 10
_NAMED_IN_SUMMARY = 3
_MAX_LINES = 50
_MAX_CHARACTERS = 300
_WORDS = {"error": "error", "warning": "warning", "info": "note"}
"""What severities are called, the worst first."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a node, as ``node_events`` has it. :param ts: unix seconds"""

    ts: int
    node_id: int
    node: str
    kind: str
    severity: str
    message: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A message for people.

    :param severity: the worst that is in it
    :param summary: on one line: how many events, of what, of whom
    """

    title: str
    body: str
    severity: str
    summary: str


def compose(events: Sequence[Event]) -> Notice:
    """Return one message for ``events``, of which there is at least one; the worst come first."""
    counts = Counter(event.severity for event in events)
    worst = next(severity for severity in _WORDS if counts[severity])
    title = ", ".join(_counted(counts[severity], severity) for severity in _WORDS if counts[severity])
    lines = [line for severity in _WORDS for line in _lines([it for it in events if it.severity == severity])]
    if len(lines) > _MAX_LINES:
        lines = [*lines[:_MAX_LINES], f"and {len(lines) - _MAX_LINES} lines more: evc events has all"]
    summary = f"{title} ({_kinds(events)})"
    return Notice(f"Edge Vision Cluster: {title}", "\n".join(lines), worst, summary)


def _counted(count: int, severity: str) -> str:
    return f"{count} {_WORDS[severity]}{'s' if count > 1 else ''}"


def natural(name: str) -> list[str | int]:
    """Return the key by which ``node-2`` comes before ``node-10``."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _kinds(events: Sequence[Event]) -> str:
    """Return the kinds with the names of their nodes, those whose severity is worst first."""
    ranks = {severity: rank for rank, severity in enumerate(_WORDS)}
    kinds: dict[str, list[str]] = {}
    for event in sorted(events, key=lambda event: (ranks[event.severity], natural(event.node))):
        kinds.setdefault(event.kind, []).append(event.node)
    return "; ".join(f"{kind}: {_few(names, _NAMED_IN_SUMMARY)}" for kind, names in kinds.items())


def _few(names: Sequence[str], count: int) -> str:
    once = list(dict.fromkeys(names))
    more = f" and {len(once) - count} more" if len(once) > count else ""
    return ", ".join(once[:count]) + more


def _lines(events: Sequence[Event]) -> list[str]:
    """Return a line for each event, and one for each kind of which there are many."""
    kinds: dict[str, list[Event]] = {}
    for event in sorted(events, key=lambda event: (event.ts, natural(event.node))):
        kinds.setdefault(event.kind, []).append(event)
    lines = []
    for kind, alike in kinds.items():
        lines += [_storm(kind, alike)] if len(alike) > STORM else [_line(event) for event in alike]
    return lines


def _line(event: Event) -> str:
    return _printed(f"{_when(event.ts)} {event.node}: {event.kind}: {event.message}")


def _printed(text: str) -> str:
    # what does not print may recolour a terminal, or turn the rest of a line around
    line = "".join(it for it in " ".join(text.split()) if it.isprintable())
    return line if len(line) <= _MAX_CHARACTERS else f"{line[: _MAX_CHARACTERS - 3]}..."


def _storm(kind: str, events: Sequence[Event]) -> str:
    names = sorted({event.node for event in events}, key=natural)
    times = list(dict.fromkeys((_when(events[0].ts), _when(events[-1].ts))))
    said = f"{' to '.join(times)} {kind}: {len(events)} events of {_few(names, _NAMED)}"
    return f"{said}; {_printed(_reason(events))}"


def _reason(events: Sequence[Event]) -> str:
    """Return what they all say, or what one of them does."""
    first = events[0]
    if all(event.message == first.message for event in events):
        return f"all: {first.message}"
    return f"{first.node}: {first.message}"


def _when(ts: int) -> str:
    return datetime.fromtimestamp(ts, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
