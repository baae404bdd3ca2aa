"""The drawn bed: the same at each run, and growing."""

from __future__ import annotations

import cv2
import numpy as np

from demo.pictures import HEIGHT_PX, WIDTH_PX, draw_bed


def _share(day: int, colour: str) -> float:
    picture = cv2.imdecode(np.frombuffer(draw_bed(day, days=6), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (HEIGHT_PX, WIDTH_PX, 3)
    hue, saturation = cv2.cvtColor(picture, cv2.COLOR_BGR2HSV)[..., :2].transpose(2, 0, 1)
    low, high = {"green": (45, 75), "yellow": (20, 30)}[colour]
    return float(np.mean((hue >= low) & (hue <= high) & (saturation > 120)))


def test_a_day_looks_the_same_at_each_run() -> None:
    assert draw_bed(3, days=6) == draw_bed(3, days=6)


def test_plants_grow_from_day_to_day_and_some_wither_in_the_end() -> None:
    green = [_share(day, "green") for day in (1, 2, 3, 4)]
    assert green == sorted(green)
    assert green[0] > 0
    assert [_share(day, "yellow") > 0.01 for day in (1, 4, 5, 6)] == [False, False, True, True]
