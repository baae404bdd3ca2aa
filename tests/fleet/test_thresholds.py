"""Thresholds of scenarios."""

from __future__ import annotations

from typing import Any

import pytest

from evc.fleet.scenarios import EventRule
from evc.fleet.thresholds import Summary, crossed

NOW = Summary(count=4, mean=0.3, min=0.1, max=0.5, last=0.2)
BEFORE = Summary(count=9, mean=0.4, min=0.4, max=0.4, last=0.4)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"below": 0.31}, "cover: mean 0.3 is below 0.31"),
        ({"below": 0.3}, None),
        ({"above": 0.3}, None),
        ({"above": 0.4, "statistic": "max"}, "cover: max 0.5 is above 0.4"),
        ({"below": 0.2, "statistic": "min", "message": "dig"}, "cover: min 0.1 is below 0.2: dig"),
        ({"above": 0.1, "statistic": "last", "label": "bed 1"}, "cover bed 1: last 0.2 is above 0.1"),
        ({"above": 3, "statistic": "count"}, "cover: count 4 is above 3"),
        ({"falls_by": 25, "window": "24h"}, "cover: mean 0.3 is 25.0 % below the 0.4 of the 24h before"),
        ({"falls_by": 26, "window": "24h"}, None),
    ],
)
def test_what_is_crossed_is_told_with_its_figures(given: dict[str, Any], said: str | None) -> None:
    assert crossed(EventRule(kind="cover", **given), NOW, BEFORE) == said


def test_where_nothing_was_said_nothing_is_crossed_but_a_count() -> None:
    nothing = Summary(0)
    assert crossed(EventRule(kind="cover", below=1), nothing, nothing) is None
    assert crossed(EventRule(kind="cover", falls_by=1, window="1h"), NOW, nothing) is None
    assert crossed(EventRule(kind="cover", falls_by=1, window="1h"), nothing, BEFORE) is None
    assert crossed(EventRule(kind="cover", below=1, statistic="count"), nothing, nothing) == "cover: count 0 is below 1"


def test_nothing_falls_from_zero_or_below() -> None:
    for earlier in (0.0, -1.0):
        assert crossed(EventRule(kind="c", falls_by=1, window="1h"), NOW, Summary(1, mean=earlier)) is None
