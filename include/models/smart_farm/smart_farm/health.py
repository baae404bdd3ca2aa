"""Signs of plant health that a colour picture shows: how much of the canopy is yellow or brown, and its hues.

They are signs, not a diagnosis: light, white balance, flowers, fruit and autumn move them as well as want of water or
nitrogen, pests and diseases, and a leaf as brown as the soil is not found as canopy at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_MIN_SATURATION = 0.1  # below it, a hue is noise


@dataclass(frozen=True, slots=True)
class Health:
    """Signs in the colour of a canopy.

    :param yellow_ratio: share of the canopy's points, as ``brown_ratio``
    :param hue_degrees: hues that 10, 50 and 90 percent of the points do not exceed: 60 is yellow, 120 green
    """

    yellow_ratio: float
    brown_ratio: float
    hue_degrees: tuple[float, float, float]
    saturation: float

    @property
    def green_ratio(self) -> float:
        """What is neither yellow nor brown, 0 to 1."""
        return max(1.0 - self.yellow_ratio - self.brown_ratio, 0.0)


def health_of(points: NDArray[np.uint8], yellow_below: float, brown_below: float) -> Health:
    """Return the signs in a canopy's points.

    :param points: N x 3, N from 1: blue, green, red
    :param yellow_below: hue in degrees below which a point is yellow, and ``brown_below`` brown; beyond 180 too, where
        red begins
    """
    colours = points.reshape(-1, 1, 3).astype(np.float32) / np.float32(255)
    hue, saturation, _ = cv2.split(cv2.cvtColor(colours, cv2.COLOR_BGR2HSV))
    turned = np.where(hue > 270, hue - 360, hue)
    is_coloured = saturation >= _MIN_SATURATION
    brown = np.count_nonzero(is_coloured & (turned < brown_below))
    yellow = np.count_nonzero(is_coloured & (turned < yellow_below)) - brown
    low, middle, high = (float(value) for value in np.percentile(turned, (10, 50, 90)))
    return Health(yellow / len(points), brown / len(points), (low, middle, high), float(saturation.mean()))
