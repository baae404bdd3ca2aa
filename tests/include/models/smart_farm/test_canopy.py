"""Which points are plant: pictures whose truth another has told, and painted ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.plants import match, picture_of, plants

Module = Callable[[str], Any]
LEAF, SOIL = (50, 160, 60), (70, 90, 110)
METHODS = ("exg", "exgr", "cive", "lab_a")


def field(rows_of_leaf: int, leaf: tuple[int, int, int] = LEAF, soil: tuple[int, int, int] = SOIL) -> Any:
    """Return a picture of 100 rows, the first of them leaf, with the noise of a sensor."""
    picture = np.empty((100, 80, 3), np.float64)
    picture[:rows_of_leaf], picture[rows_of_leaf:] = leaf, soil
    noise = np.random.default_rng(7).normal(0, 3, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("name", "at_least"), [("potted plant", 0.85), ("potted plant, trimap", 0.85), ("aloe", 0.6)])
def test_published_masks(module: Module, name: str, at_least: float) -> None:
    (plant,) = (each for each in plants() if each.name == name)
    assert match(module("canopy").find_canopy(plant.picture).mask, plant).iou > at_least


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rows", [0, 1, 10, 50, 90, 100])
def test_cover_is_what_was_painted(module: Module, method: str, rows: int) -> None:
    assert module("canopy").find_canopy(field(rows), method).cover == pytest.approx(rows / 100, abs=0.012)


@given(rows=st.integers(0, 100), light=st.floats(0.4, 1.5))
def test_brightness_does_not_matter(module: Module, rows: int, light: float) -> None:
    leaf, soil = ((int(blue * light), int(green * light), int(red * light)) for blue, green, red in (LEAF, SOIL))
    cover = module("canopy").find_canopy(field(rows, leaf, soil)).cover
    assert cover == pytest.approx(rows / 100, abs=0.012)


def test_what_is_not_green_is_no_plant(module: Module) -> None:
    assert module("canopy").find_canopy(picture_of("data/cards.png")).cover == 0


def test_what_is_nearly_black_is_no_plant(module: Module) -> None:
    assert module("canopy").find_canopy(np.full((20, 20, 3), (0, 9, 0), np.uint8)).cover == 0


def test_a_speck_does_not_grow(module: Module) -> None:
    picture = np.full((20, 20, 3), SOIL, np.uint8)
    picture[10, 10] = LEAF
    assert module("canopy").find_canopy(picture).cover <= 1 / 400


def test_an_unknown_method(module: Module) -> None:
    with pytest.raises(KeyError):
        module("canopy").find_canopy(field(1), "other")


def test_the_thresholds_stay_within_bounds(module: Module) -> None:
    canopy = module("canopy")
    for name, method in canopy.METHODS.items():
        for rows in (0, 50, 100):
            assert method.floor <= canopy.find_canopy(field(rows), name).threshold <= method.ceiling
