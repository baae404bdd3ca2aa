"""Drawn pictures of a seedling bed that grows from day to day: input of the demo's scenario, no photographs."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH_PX, HEIGHT_PX = 640, 480
_COLUMNS, _ROWS = 8, 5
_SOIL, _LEAF, _WITHERED = (58, 78, 104), (58, 150, 72), (40, 150, 178)  # blue, green, red


def draw_bed(day: int, *, days: int) -> bytes:
    """Return the picture of a day as PNG; from day to day the plants grow, and some wither in the last third.

    :param day: from 1 to ``days``
    """
    random = np.random.default_rng(20260501)  # the same bed each day
    picture = _soil(random)
    for row in range(_ROWS):
        for column in range(_COLUMNS):
            x = (column + 0.5) * WIDTH_PX / _COLUMNS + random.uniform(-8, 8)
            y = (row + 0.5) * HEIGHT_PX / _ROWS + random.uniform(-8, 8)
            withers = random.random() < 0.3 and day > days * 2 / 3
            size_px = (4 + 30 * day / days) * random.uniform(0.8, 1.1)
            _plant(picture, random, (x, y), size_px, _WITHERED if withers else _LEAF)
    return bytes(cv2.imencode(".png", picture)[1])


def _soil(random: np.random.Generator) -> NDArray[np.uint8]:
    grain = cv2.GaussianBlur(random.normal(0, 40, (HEIGHT_PX, WIDTH_PX)), (0, 0), 1.5)
    return np.clip(np.array(_SOIL) + grain[..., None], 0, 255).astype(np.uint8)


def _plant(
    picture: NDArray[np.uint8],
    random: np.random.Generator,
    middle: tuple[float, float],
    size_px: float,
    colour: tuple[int, int, int],
) -> None:
    for leaf in range(5):
        angle = 72.0 * leaf + random.uniform(-15, 15)
        away = size_px * 0.5
        x, y = (middle[axis] + away * (np.cos, np.sin)[axis](np.radians(angle)) for axis in (0, 1))
        shade = random.uniform(0.8, 1.2)
        tint = tuple(min(255, int(part * shade)) for part in colour)
        cv2.ellipse(
            picture, (round(x), round(y)), (round(away), max(1, round(away * 0.45))), angle, 0, 360, tint, cv2.FILLED
        )
