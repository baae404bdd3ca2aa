"""The result lines of one picture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from .canopy import Canopy, Picture, find_canopy
from .fitness import what_is_wrong
from .health import health_of
from .indices import INDICES
from .settings import Settings

Line = dict[str, Any]
"""What is printed, without ``frame`` and what else all lines of a picture bear."""


def reduced(picture: Picture, max_side_px: int) -> Picture:
    """Return ``picture`` so small that no side is longer than ``max_side_px``."""
    scale = max_side_px / max(picture.shape[:2])
    if scale >= 1:
        return picture
    return np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def lines_of(picture: Picture, settings: Settings) -> Iterator[Line]:
    """Yield what there is to say of ``picture``: ``canopy_cover`` first; or one ``error`` where it can tell nothing."""
    small = reduced(picture, settings.max_side_px)
    wrong = what_is_wrong(small, settings.dark_below, settings.bright_above, settings.grey_below)
    if wrong:
        yield {"kind": "error", "label": wrong[0], "message": wrong[1]}
        return
    canopy = find_canopy(small, settings.method)
    yield {
        "kind": "canopy_cover",
        "value": canopy.cover,
        "method": settings.method,
        "threshold": round(canopy.threshold, 4),
    }
    # a few points of noise are no canopy, and what is absent has no greenness
    if canopy.cover > 0 and canopy.cover >= settings.min_cover:
        yield from _of_canopy(small, canopy, settings)


def _of_canopy(picture: Picture, canopy: Canopy, settings: Settings) -> Iterator[Line]:
    points = picture[canopy.mask]
    blue, green, red = (np.ascontiguousarray(points[:, channel], np.float32) for channel in range(3))
    for name, index in INDICES.items():
        values = index(red, green, blue)
        yield {"kind": name, "value": float(values.mean(dtype=np.float64)), "std": round(float(values.std()), 4)}
    health = health_of(points, settings.yellow_below_degrees, settings.brown_below_degrees)
    is_green = 1 - health.green_ratio <= settings.discoloured_above
    yield {
        "kind": "health",
        "value": health.green_ratio,
        "label": "green" if is_green else "discoloured",
        "yellow_ratio": round(health.yellow_ratio, 4),
        "brown_ratio": round(health.brown_ratio, 4),
        "hue_degrees": [round(hue, 1) for hue in health.hue_degrees],
        "saturation": round(health.saturation, 4),
    }
