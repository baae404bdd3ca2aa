"""Spans of time."""

from __future__ import annotations

import re

from evc.fleet.spans import SPAN_OR_TIME_PATTERN, SPAN_PATTERN, is_span, seconds_of


def test_a_span_is_seconds() -> None:
    assert [seconds_of(text) for text in ("30s", "5m", "24h", "7d")] == [30, 300, 86_400, 604_800]


def test_what_is_a_span_and_what_a_time() -> None:
    time = "2026-12-01T06:00:00+09:00"
    assert all(re.fullmatch(SPAN_OR_TIME_PATTERN, text) for text in ("30s", time))
    assert (is_span("30s"), is_span(time), is_span(time.replace("+09:00", "Z"))) == (True, False, False)
    assert not any(re.fullmatch(SPAN_PATTERN, text) for text in ("0s", "1.5h", "h", "1w", time))
