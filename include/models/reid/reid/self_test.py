"""Whether the model works here: the networks load and answer in their shapes, and what differs is told apart."""

from __future__ import annotations

import numpy as np

from reid.description import light_of, open_describer
from reid.settings import Settings
from reid.watch import Watcher


def self_test(settings: Settings) -> int:
    """Return 0 where all is well. :raises NetworkError: a network can't be used"""
    picture = np.full((240, 320, 3), 127, np.uint8)
    Watcher(settings).look(picture)
    describer = open_describer(settings.describer, settings.describer_size)
    light = light_of(picture)
    red, blue = picture[:128, :48].copy(), picture[:128, :48].copy()
    red[:, :] = (20, 20, 200)
    blue[:, :] = (200, 20, 20)
    same = float(describer.describe(red, light) @ describer.describe(red.copy(), light))
    other = float(describer.describe(red, light) @ describer.describe(blue, light))
    return 0 if abs(same - 1) < 1e-3 and other < same else 1
