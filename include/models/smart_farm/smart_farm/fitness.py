"""Whether a picture can tell anything: one taken at night or against the sun would read as plants that have gone."""

from __future__ import annotations

import cv2
import numpy as np

from .canopy import Picture


def what_is_wrong(
    picture: Picture, dark_below: float, bright_above: float, grey_below: float
) -> tuple[str, str] | None:
    """Return a word and a sentence for what is wrong with ``picture``; None where nothing is.

    :param dark_below: mean brightness, 0 to 1, as ``bright_above``
    :param grey_below: mean difference between the largest and the smallest channel, 0 to 1: cameras that see by
        infra-red at night send grey pictures
    """
    light = float(picture.mean()) / 255
    if light < dark_below:
        return "dark", f"too dark to tell: mean brightness {light:.3f}"
    if light > bright_above:
        return "bright", f"too bright to tell: mean brightness {light:.3f}"
    blue, green, red = cv2.split(picture)
    colour = cv2.subtract(cv2.max(cv2.max(blue, green), red), cv2.min(cv2.min(blue, green), red))
    share = float(np.mean(colour)) / 255
    if share < grey_below:
        return "grey", f"no colours to tell by: mean difference of the channels {share:.3f}"
    return None
