"""Waves and gates of a roll-out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evc.errors import InputError
from evc.fleet.waves import (
    DEFAULT_WAVES,
    FAILED,
    MAX_WAVES,
    STATUSES,
    WORKING,
    Step,
    Thresholds,
    cut,
    is_crossed,
    judge,
    parse_waves,
)

THRESHOLDS = Thresholds(success=90, error=10)
PERCENT = st.integers(1, 99).map(lambda number: f"{number}%")
COUNTS = st.lists(st.integers(1, 50), max_size=2, unique=True).map(sorted)
SHARES = st.lists(st.integers(1, 99), max_size=2, unique=True).map(lambda found: [f"{n}%" for n in sorted(found)])


@pytest.mark.parametrize(
    ("waves", "nodes", "sizes"),
    [
        (DEFAULT_WAVES, 1, [1]),
        (DEFAULT_WAVES, 2, [1, 1]),
        (DEFAULT_WAVES, 3, [1, 2]),
        (DEFAULT_WAVES, 8, [1, 1, 6]),
        (DEFAULT_WAVES, 1000, [1, 249, 750]),
        (["100%"], 3, [3]),
        ([1, 2, 3], 3, [1, 1, 1]),
        ([1, 10], 3, [1, 2]),
        (["33.3%", "66.67%", "100%"], 3, [1, 2]),
        ([5, "10%", "100%"], 20, [5, 15]),
        (["0.01%", "100%"], 10_000, [1, 9_999]),
    ],
)
def test_waves_end_where_they_are_told_to(waves: list[Any], nodes: int, sizes: list[int]) -> None:
    assert [len(wave) for wave in cut(parse_waves(waves), range(nodes))] == sizes


@given(counts=COUNTS, shares=SHARES, count=st.integers(1, 300))
def test_each_node_is_in_one_wave_and_in_its_order(counts: list[int], shares: list[str], count: int) -> None:
    nodes = list(range(count))
    waves = cut(parse_waves([*counts, *shares, "100%"]), nodes)
    assert [node for wave in waves for node in wave] == nodes
    assert all(waves)
    assert len(waves) <= MAX_WAVES
    assert cut(parse_waves([*counts, *shares, "100%"]), nodes) == waves


NO_LISTS: list[Any] = [None, "100%", [], {}, 3, ["100%"] * 6, [1, 2, 3, 4, 5, "100%"]]
NO_ITEMS: list[Any] = [0, -1, True, 1.5, None, [1], "0%", "0.00%", "101%", "-5%", "25", "25 %", "25%\n", "%", "٢٥%"]


@pytest.mark.parametrize(
    ("waves", "where"),
    [
        *[(bad, "waves") for bad in NO_LISTS],
        *[([bad, "100%"], r"waves\[0\]") for bad in NO_ITEMS],
        *[([bad, "100%"], r"waves\[0\]") for bad in ("1e1%", "NaN%", "025%", "1" * 500)],
        *[(bad, r"waves\[1\]") for bad in (["50%", "25%", "100%"], ["50%", "50%", "100%"], [3, 3, "100%"], [3, 2])],
        *[(bad, r"waves\[1\]") for bad in (["100%", "100%"], ["100%", 5], [1, "50%"])],
        ([1, "50%", 2, "40%", "100%"], r"waves\[3\]"),
    ],
)
def test_what_makes_no_sense_is_named(waves: Any, where: str) -> None:
    with pytest.raises(InputError, match=f"^{where}: .*; allowed: ") as caught:
        parse_waves(waves)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_last_wave_that_leaves_nodes_out_is_refused() -> None:
    with pytest.raises(InputError, match=r"waves: the last one ends after 5 of 12 nodes; allowed: end with"):
        cut(parse_waves([1, 5]), range(12))
    with pytest.raises(InputError, match="nodes: none was chosen"):
        cut(parse_waves([1, 5]), [])


@pytest.mark.parametrize(
    ("statuses", "step"),
    [
        (["succeeded"], Step.GO_ON),
        (["failed"], Step.GO_BACK),
        (["refused"], Step.GO_BACK),
        (["pending"], Step.WAIT),
        (["expired"], Step.GIVE_UP),
        (["waiting", "succeeded"], Step.WAIT),
        (["aborted", "succeeded"], Step.GIVE_UP),
        (["succeeded"] * 9 + ["failed"], Step.GO_ON),  # a tenth is not more than 10 %
        (["succeeded"] * 8 + ["failed"] * 2, Step.GO_BACK),
        (["succeeded"] * 9 + ["pending"], Step.GO_ON),
        (["succeeded"] * 8 + ["pending"] * 2, Step.WAIT),
        (["succeeded"] * 8 + ["failed", "pending"], Step.WAIT),
        (["succeeded"] * 8 + ["failed", "expired"], Step.GIVE_UP),
        (["succeeded"] * 18 + ["failed"] * 2, Step.GO_ON),
        (["succeeded"] * 17 + ["failed"] * 2 + ["gate"], Step.WAIT),
    ],
)
def test_what_comes_after_a_wave(statuses: list[str], step: Step) -> None:
    assert judge(statuses, THRESHOLDS, is_late=False).step is step


def test_after_the_deadline_nobody_is_waited_for() -> None:
    verdict = judge(["succeeded"] * 8 + ["pending"] * 2, THRESHOLDS, is_late=True)
    assert verdict.step is Step.GIVE_UP
    assert verdict.message == (
        "8 of 10 succeeded, 0 failed, 2 did not answer until the deadline: "
        "the success threshold of 90 % can't be reached any more"
    )


WAVE = st.lists(st.sampled_from(sorted(STATUSES)), min_size=1, max_size=40)
PERCENTS = st.floats(0, 100, allow_nan=False)


@given(WAVE, PERCENTS, PERCENTS, st.booleans())
def test_a_verdict_holds_what_it_says(statuses: list[str], success: float, error: float, is_late: bool) -> None:
    thresholds = Thresholds(success, error)
    verdict = judge(statuses, thresholds, is_late=is_late)
    good, bad = statuses.count("succeeded"), sum(status in FAILED for status in statuses)
    assert (verdict.step is Step.GO_BACK) == is_crossed(statuses, thresholds) == (bad * 100 > error * len(statuses))
    if verdict.step is Step.GO_ON:
        assert good * 100 >= success * len(statuses)
    if verdict.step is Step.WAIT:
        assert any(status in WORKING | {"waiting", "pending"} for status in statuses)
    if not any(status in WORKING | {"waiting", "pending"} for status in statuses):
        assert verdict.step is not Step.WAIT
    assert "\n" not in verdict.message


@given(WAVE, PERCENTS, PERCENTS, st.booleans(), st.randoms())
def test_the_order_of_the_nodes_says_nothing(
    statuses: list[str], success: float, error: float, is_late: bool, random: Any
) -> None:
    shuffled = list(statuses)
    random.shuffle(shuffled)
    thresholds = Thresholds(success, error)
    assert judge(shuffled, thresholds, is_late=is_late) == judge(statuses, thresholds, is_late=is_late)
