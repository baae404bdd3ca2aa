"""Spans of time as people write them: ``90m``, ``2h``, ``1d``."""

from __future__ import annotations

_SPAN = "[1-9][0-9]{0,6}[smhd]"
# RFC 3339, section 5.6, with an offset
_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
SPAN_PATTERN = f"^{_SPAN}$"
SPAN_OR_TIME_PATTERN = f"^(?:{_SPAN}|{_TIME})$"

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def is_span(text: str) -> bool:
    """Whether a text that fits :data:`SPAN_OR_TIME_PATTERN` is a span."""
    return text[-1] in _SECONDS


def seconds_of(span: str) -> int:
    """Return the seconds of a span."""
    return int(span[:-1]) * _SECONDS[span[-1]]
