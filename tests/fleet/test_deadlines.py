"""Until when a roll-out waits."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evc.errors import InputError
from evc.fleet.deadlines import DEADLINE_PATTERN, DEFAULT_DEADLINE, FOREVER_TS, parse_deadline

NOW_TS = 1_790_000_000  # 2026-09-21T14:13:20Z


@pytest.mark.parametrize(
    ("text", "ts"),
    [
        (None, FOREVER_TS),
        (DEFAULT_DEADLINE, NOW_TS + 3600),
        ("45s", NOW_TS + 45),
        ("90m", NOW_TS + 5400),
        ("1d", NOW_TS + 86400),
        ("2026-09-21T14:13:21Z", NOW_TS + 1),
        ("2026-09-21t14:13:21z", NOW_TS + 1),
        ("2026-09-21T23:14:20+09:00", NOW_TS + 60),
        ("2026-09-21 14:14:20.5Z", NOW_TS + 60),
    ],
)
def test_a_deadline_is_a_duration_or_a_time(text: str | None, ts: int) -> None:
    assert parse_deadline(text, NOW_TS) == ts


@pytest.mark.parametrize(
    "text",
    [
        *("", "0m", "-1h", "1.5h", "1w", "h", "1h ", "1h\n", "٣h", "367d", "9999999d", "soon", 3600, True, ["1h"]),
        *("2026-09-21T14:13:20Z", "2020-01-01T00:00:00Z", "2126-01-01T00:00:00Z", "2026-13-01T00:00:00Z"),
        *("2026-12-01T00:00:00", "2026-12-01", "2026-12-01T25:00:00Z", "2026-12-01T00:00:00+99:00"),
    ],
)
def test_any_other_is_refused_with_what_is_allowed(text: Any) -> None:
    with pytest.raises(InputError, match="^deadline: .*; allowed: a duration") as caught:
        parse_deadline(text, NOW_TS)
    assert "\n" not in str(caught.value)


@given(st.text() | st.from_regex(DEADLINE_PATTERN))
def test_whatever_is_given_is_a_later_time_or_an_input_error(text: str) -> None:
    try:
        ts = parse_deadline(text, NOW_TS)
    except InputError:
        return
    assert NOW_TS < ts <= NOW_TS + 366 * 86400
    assert re.fullmatch(DEADLINE_PATTERN, text)
