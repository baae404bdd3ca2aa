"""Which points of a picture are plant.

An index of colour is laid over the picture and cut by Otsu's threshold. Otsu cuts everything in two, a bare field and a
closed canopy too, so the threshold is kept within bounds: what is greener than ``ceiling`` always is plant, what is not
as green as ``floor`` never is.

Sources: Woebbecke et al. (1995) for ExG; Meyer and Neto (2008) for ExGR, which is cut at 0; Kataoka et al. (2003), Crop
growth estimation system using machine vision, AIM 2003, for CIVE; CIE 1976 L*a*b*, of which a* is green below 0;
Otsu (1979), A threshold selection method from gray-level histograms, IEEE Transactions on Systems, Man, and Cybernetics
9(1), 62-66.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .indices import Floats, exg, exgr

Picture = NDArray[np.uint8]
"""Height x width x 3, blue, green, red, 0 to 255."""
Mask = NDArray[np.bool_]
"""Height x width."""

_DARK_SUM = 30  # of the three channels: below it, their proportions are the sensor's noise
_SPECK_PX = 3


@dataclass(frozen=True, slots=True)
class Method:
    """A way to tell plants.

    :param green: returns of channels red, green and blue an array that is larger where it is greener
    :param low: what counts as the smallest value, and ``high`` as the largest, in 256 steps of which Otsu chooses
    :param floor: the smallest threshold, and ``ceiling`` the largest
    """

    green: Callable[[Floats, Floats, Floats], Floats]
    low: float
    high: float
    floor: float
    ceiling: float


@dataclass(frozen=True, slots=True)
class Canopy:
    """The plants of a picture.

    :param threshold: above which the method's index counts as plant
    """

    mask: Mask
    threshold: float

    @property
    def cover(self) -> float:
        """Share of the picture, 0 to 1."""
        return float(np.count_nonzero(self.mask)) / self.mask.size


def _cive(red: Floats, green: Floats, blue: Floats) -> Floats:
    """Colour index of vegetation extraction with its sign turned: green is above, not below."""
    index = np.float32(0.811) * green - np.float32(0.441) * red - np.float32(0.385) * blue - np.float32(18.78745)
    return np.asarray(index, np.float32)


def _lab_a(red: Floats, green: Floats, blue: Floats) -> Floats:
    """Return -a* of CIE L*a*b*."""
    lab = cv2.cvtColor(cv2.merge([blue, green, red]) / np.float32(255), cv2.COLOR_BGR2LAB)
    return np.asarray(-lab[..., 1], np.float32)


METHODS = {
    "exg": Method(exg, -0.5, 1.0, 0.05, 0.15),
    "exgr": Method(exgr, -1.5, 1.5, 0.0, 0.0),
    "cive": Method(_cive, -120.0, 120.0, -10.0, 10.0),
    "lab_a": Method(_lab_a, -60.0, 60.0, 3.0, 12.0),
}


def find_canopy(picture: Picture, method: str = "exg") -> Canopy:
    """Return which points of ``picture`` are plant.

    :raises KeyError: there is no such method
    """
    way = METHODS[method]
    smooth = cv2.GaussianBlur(picture, (_SPECK_PX, _SPECK_PX), 0)  # what noise a sensor has in poor light
    blue, green, red = (np.asarray(channel, np.float32) for channel in cv2.split(smooth))
    index = way.green(red, green, blue)
    threshold = min(max(_otsu(index, way), way.floor), way.ceiling)
    found = (index > threshold) & (red + green + blue >= _DARK_SUM)
    return Canopy(cv2.medianBlur(found.view(np.uint8), _SPECK_PX).view(np.bool_), threshold)


def _otsu(index: Floats, way: Method) -> float:
    scale = 255 / (way.high - way.low)
    steps = cv2.convertScaleAbs(np.clip(index, way.low, way.high) - np.float32(way.low), alpha=scale)
    step, _ = cv2.threshold(steps, 0, 255, cv2.THRESH_OTSU)
    return way.low + step / scale
