"""Since when."""

from __future__ import annotations

import pytest

from evc.errors import InputError
from evc.fleet.since import parse_since

NOW = 1_800_000_000


@pytest.mark.parametrize(
    ("given", "ts"),
    [
        ("30s", NOW - 30),
        ("90m", NOW - 5400),
        ("2h", NOW - 7200),
        ("7d", NOW - 604_800),
        ("9999999d", 0),
        ("2026-01-01T00:00:00Z", 1_767_225_600),
        ("2026-01-01T09:00:00+09:00", 1_767_225_600),
    ],
)
def test_a_duration_or_a_time(given: str, ts: int) -> None:
    assert parse_since(given, NOW) == ts


@pytest.mark.parametrize(
    "given",
    ["", "0h", "2", "-1h", "2 h", "2w", "1.5h", "yesterday", "2026-01-01", "2026-01-01T00:00:00",
     "2026-13-01T00:00:00Z", "2099-01-01T00:00:00Z", "99999999d", "2h\n", None, 7],
)  # fmt: skip
def test_what_is_neither_is_refused(given: object) -> None:
    with pytest.raises(InputError, match="^since: "):
        parse_since(given, NOW)
