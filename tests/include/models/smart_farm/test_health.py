"""Yellow and brown shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

Module = Callable[[str], Any]
GREEN, YELLOW, BROWN, RED, GREY = (40, 160, 60), (40, 190, 210), (30, 80, 130), (60, 40, 200), (90, 92, 90)


def health(module: Module, *colours: tuple[int, int, int]) -> Any:
    return module("health").health_of(np.array(colours, np.uint8), 60, 45)


def test_each_colour_counts_as_what_it_is(module: Module) -> None:
    said = health(module, GREEN, GREEN, YELLOW, BROWN)
    assert (said.green_ratio, said.yellow_ratio, said.brown_ratio) == (0.5, 0.25, 0.25)


def test_red_counts_with_brown_and_grey_with_green(module: Module) -> None:
    assert health(module, RED).brown_ratio == 1
    assert health(module, GREY).green_ratio == 1


def test_hues_are_degrees(module: Module) -> None:
    assert health(module, (0, 255, 0)).hue_degrees == pytest.approx((120, 120, 120), abs=0.5)
    assert health(module, (0, 255, 255)).hue_degrees == pytest.approx((60, 60, 60), abs=0.5)


@given(st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=50))
def test_shares_are_of_one_whole(module: Module, colours: list[tuple[int, int, int]]) -> None:
    said = health(module, *colours)
    shares = (said.green_ratio, said.yellow_ratio, said.brown_ratio)
    assert all(0 <= share <= 1 for share in shares)
    assert sum(shares) == pytest.approx(1)
    low, middle, high = said.hue_degrees
    assert -90 <= low <= middle <= high <= 270
