"""Greenness indices by their formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

Module = Callable[[str], Any]
RANGES = {"exg": (-1, 2), "exgr": (-2.4, 3), "gli": (-1, 1), "ngrdi": (-1, 1), "vari": (-1, 1), "mgrvi": (-1, 1)}


def value(module: Module, name: str, red: float, green: float, blue: float) -> float:
    channels = (np.array([channel], np.float32) for channel in (red, green, blue))
    return float(module("indices").INDICES[name](*channels)[0])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("exg", (2 * 150 - 60 - 40) / 250),
        ("exgr", (2 * 150 - 60 - 40) / 250 - (1.4 * 60 - 150) / 250),
        ("gli", (2 * 150 - 60 - 40) / (2 * 150 + 60 + 40)),
        ("ngrdi", (150 - 60) / (150 + 60)),
        ("vari", (150 - 60) / (150 + 60 - 40)),
        ("mgrvi", (150**2 - 60**2) / (150**2 + 60**2)),
    ],
)
def test_formulas(module: Module, name: str, expected: float) -> None:
    assert value(module, name, 60, 150, 40) == pytest.approx(expected, rel=1e-5)


@given(name=st.sampled_from(sorted(RANGES)), colour=st.tuples(*[st.integers(0, 255)] * 3))
def test_ranges(module: Module, name: str, colour: tuple[int, int, int]) -> None:
    low, high = RANGES[name]
    assert low - 1e-5 <= value(module, name, *colour) <= high + 1e-5


@given(name=st.sampled_from(sorted(RANGES)), grey=st.integers(0, 255))
def test_grey_is_not_green(module: Module, name: str, grey: int) -> None:
    expected = pytest.approx(-0.4 / 3 if name == "exgr" and grey else 0, abs=1e-5)
    assert value(module, name, grey, grey, grey) == expected


@pytest.mark.parametrize("name", sorted(RANGES))
def test_the_green_of_leaves_is_more_than_soil(module: Module, name: str) -> None:
    assert value(module, name, 60, 160, 50) > value(module, name, 110, 90, 70)
