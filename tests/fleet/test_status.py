"""What answers and silence make of a node's status."""

from __future__ import annotations

import pytest

from evc.fleet.status import Judgement, judge


@pytest.mark.parametrize(
    ("status", "missed", "answered", "verdict"),
    [
        ("unknown", 0, True, Judgement("up", 0, True)),
        ("up", 0, True, Judgement("up", 0, False)),
        ("up", 0, False, Judgement("up", 1, False)),
        ("up", 1, False, Judgement("down", 2, True)),
        ("up", 1, True, Judgement("up", 0, False)),
        ("down", 7, False, Judgement("down", 8, False)),
        ("down", 8, True, Judgement("up", 0, True)),
        ("unknown", 0, False, Judgement("unknown", 1, False)),
        ("unknown", 1, False, Judgement("down", 2, True)),
    ],
)
def test_down_after_two_missed_sweeps_and_up_at_the_first_answer(
    status: str, missed: int, answered: bool, verdict: Judgement
) -> None:
    assert judge(status, missed, answered) == verdict
