"""Pictures of plants for which somebody else has said where the plant is, from Debian's package opencv-doc.

- ``plant.jpg`` of OpenCV's module alphamat: a plant in a pot, with the matte that the module makes of it, and the
  trimap that it is given for that: surely in front, surely behind, and undecided between them, which is left out. Both
  are of all that stands in front, pot and blue peg as well as the plant: points below the pot's rim are left out.
- ``aloeL.jpg``, the picture "Aloe" of the Middlebury Stereo Datasets of 2006 (Hirschmueller and Scharstein, CVPR 2007),
  with its disparities, measured by structured light: what is nearer than the cloth behind it is plant. No colour has a
  part in that. Left out are points without a disparity, and those below the pot's rim.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

EXAMPLES = Path("/usr/share/doc/opencv-doc/examples")
_POT_RIM_ROW = 196
_ALOE_RIM_ROW = 720
_TRIMAP_MARGIN = 8
_CLOTH_DISPARITY = 64  # at the top, and a little more further down: the cloth hangs aslant
_CLOTH_SLOPE = 1 / 96


@dataclass(frozen=True, slots=True)
class Plant:
    """A picture and the truth about it.

    :param picture: height x width x 3, blue, green, red
    :param mask: height x width, where the plant is
    :param counts: height x width, which points are compared at all
    """

    name: str
    picture: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    counts: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Match:
    """How well what was found fits the truth, each from 0 to 1."""

    iou: float
    precision: float
    recall: float


def picture_of(name: str, flags: int = cv2.IMREAD_COLOR) -> NDArray[np.uint8]:
    """Return a picture of opencv-doc.

    :raises RuntimeError: the package is not installed
    """
    picture = cv2.imread(str(EXAMPLES / name), flags)
    if picture is None:
        raise RuntimeError(f"{EXAMPLES / name} is missing: tests/packages.sh installs the Debian package opencv-doc")
    return np.asarray(picture, np.uint8)


def plants() -> Iterator[Plant]:
    """Yield the pictures whose truth is known."""
    matte = picture_of("alphamat/output_mattes/plant_result.png", cv2.IMREAD_GRAYSCALE)
    counts = np.ones(matte.shape, bool)
    counts[_POT_RIM_ROW:] = False
    picture = picture_of("alphamat/input_images/plant.jpg")
    yield Plant("potted plant", picture, matte > 127, counts)
    trimap = picture_of("alphamat/trimaps/plant.png", cv2.IMREAD_GRAYSCALE)
    is_sure = (trimap < _TRIMAP_MARGIN) | (trimap > 255 - _TRIMAP_MARGIN)
    yield Plant("potted plant, trimap", picture, trimap > 127, counts & is_sure)
    disparity = picture_of("data/aloeGT.png", cv2.IMREAD_GRAYSCALE)
    rows = np.arange(len(disparity))[:, None]
    mask = disparity > _CLOTH_DISPARITY + _CLOTH_SLOPE * rows
    yield Plant("aloe", picture_of("data/aloeL.jpg"), mask, (disparity > 0) & (rows < _ALOE_RIM_ROW))


def match(found: NDArray[np.bool_], plant: Plant) -> Match:
    """Return how well ``found`` fits."""
    given, true = found & plant.counts, plant.mask & plant.counts
    both = int(np.count_nonzero(given & true))
    return Match(
        both / max(int(np.count_nonzero(given | true)), 1),
        both / max(int(np.count_nonzero(given)), 1),
        both / max(int(np.count_nonzero(true)), 1),
    )
