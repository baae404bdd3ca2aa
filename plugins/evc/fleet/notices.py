"""What people are told of events: one message for all that is new, storms as one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

STORM = 5
"""From more events of one kind on they share a line."""
_NAMED = 10
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
    """A message for people. :param severity: the worst that is in it"""

    title: str
    body: str
    severity: str


def compose(events: Sequence[Event]) -> Notice:
    """Return one message for ``events``, of which there is at least one; the worst come first."""
    counts = Counter(event.severity for event in events)
    worst = next(severity for severity in _WORDS if counts[severity])
    title = ", ".join(_counted(counts[severity], severity) for severity in _WORDS if counts[severity])
    lines = [line for severity in _WORDS for line in _lines([it for it in events if it.severity == severity])]
    if len(lines) > _MAX_LINES:
        lines = [*lines[:_MAX_LINES], f"and {len(lines) - _MAX_LINES} lines more: evc events has all"]
    return Notice(f"Edge Vision Cluster: {title}", "\n".join(lines), worst)


def _counted(count: int, severity: str) -> str:
    return f"{count} {_WORDS[severity]}{'s' if count > 1 else ''}"


def _lines(events: Sequence[Event]) -> list[str]:
    """Return a line for each event, and one for each kind of which there are many."""
    kinds: dict[str, list[Event]] = {}
    for event in sorted(events, key=lambda event: (event.ts, event.node)):
        kinds.setdefault(event.kind, []).append(event)
    lines = []
    for kind, alike in kinds.items():
        lines += [_storm(kind, alike)] if len(alike) > STORM else [_line(event) for event in alike]
    return lines


def _line(event: Event) -> str:
    words = " ".join(event.message.split())
    # what does not print may recolour a terminal, or turn the rest of a line around
    line = "".join(it for it in f"{_when(event.ts)} {event.node}: {event.kind}: {words}" if it.isprintable())
    return line if len(line) <= _MAX_CHARACTERS else f"{line[: _MAX_CHARACTERS - 3]}..."


def _storm(kind: str, events: Sequence[Event]) -> str:
    names = list(dict.fromkeys(event.node for event in events))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    first, last = events[0].ts, events[-1].ts
    return f"{_when(first)} to {_when(last)} {kind}: {len(events)} events of {', '.join(names[:_NAMED])}{more}"


def _when(ts: int) -> str:
    return datetime.fromtimestamp(ts, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
