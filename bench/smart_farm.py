"""Smart Farm: what the model finds beside published masks, other ways and none, and how fast."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bench.child import BenchError
from bench.models import model_module
from bench.plants import Plant, match, picture_of, plants
from bench.stage import Stage
from bench.table import Section, at_least

Way = Callable[[NDArray[np.uint8]], NDArray[np.bool_]]
_OWN_WAYS = {
    "exg": "ExG, Otsu within bounds (the default)",
    "exgr": "ExGR above 0",
    "cive": "CIVE, Otsu within bounds",
    "lab_a": "a* of L*a*b*, Otsu within bounds",
}
_GOALS = {"potted plant": 0.85, "potted plant, trimap": 0.85, "aloe": 0.6}
_SIZES = {"640 x 480": (640, 480), "1280 x 960": (1280, 960)}
_WITHOUT_PLANTS = {"playing cards": "data/cards.png", "a green circuit board": "data/board.jpg"}


def measure(stage: Stage) -> Section:
    """Compare with the truth, then time the whole way from JPEG to lines."""
    section = Section("Smart Farm: canopy beside published masks")
    try:
        given = list(plants())
    except RuntimeError as error:
        raise BenchError(str(error)) from error
    for plant in given:
        _compare(section, plant)
    for what, file in _WITHOUT_PLANTS.items():
        cover = model_module("smart_farm", "canopy").find_canopy(picture_of(file)).cover
        section.add(f"cover found without a plant: {what}", cover, "ratio")
    for size, pixels in _SIZES.items():
        section.add(f"JPEG to lines, {size}", _per_s(given[0], pixels, 0.3 if stage.quick else 5), "pictures/CPU s")
    section.remarks += [
        "IoU: points found and true, divided by points found or true; the truth is another's, see bench/plants.py",
        "potted plant: the published matte above the pot's rim, or the trimap without what it leaves undecided",
        "aloe: nearer than the cloth by measured disparity",
        "x EVC: IoU divided by that of the default",
        f"one thread of OpenCV {cv2.__version__} and NumPy {np.__version__}; a cut of the potted plant, scaled",
    ]
    return section


def _ways() -> dict[str, Way]:
    find = model_module("smart_farm", "canopy").find_canopy
    own: dict[str, Way] = {
        text: lambda picture, name=name: find(picture, name).mask  # type: ignore[misc]  # mypy sees no default
        for name, text in _OWN_WAYS.items()
    }
    return own | {
        "ExG above Otsu's threshold, no bounds": _exg_otsu,
        "baseline: hue 70 to 170 degrees": _hue,
        "baseline: brightness, Otsu": _grey_otsu,
        "baseline: all of it is plant": lambda picture: np.ones(picture.shape[:2], bool),
    }


def _compare(section: Section, plant: Plant) -> None:
    ways = _ways()
    matches = {text: match(way(plant.picture), plant) for text, way in ways.items()}
    default = next(iter(matches.values()))
    true = float(plant.mask[plant.counts].mean())
    section.add(f"{plant.name}: true cover", true, "ratio")
    section.add("  cover found by the default", true * default.recall / default.precision, "ratio")
    for text, found in matches.items():
        goal = at_least(_GOALS[plant.name], found.iou, "") if found is default else None
        section.add(f"  {text}", found.iou, "IoU", None if found is default else found.iou / default.iou, goal)
    section.add("  precision of the default", default.precision, "ratio")
    section.add("  recall of the default", default.recall, "ratio")


def _exg_otsu(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    blue, green, red = (channel.astype(np.float32) for channel in np.moveaxis(picture, 2, 0))
    index = (2 * green - red - blue) / np.maximum(red + green + blue, 1)
    return _otsu(cv2.normalize(index, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U))  # type: ignore[call-overload]


def _hue(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    low, high = np.array((35, 40, 40)), np.array((85, 255, 255))
    return np.asarray(cv2.inRange(cv2.cvtColor(picture, cv2.COLOR_BGR2HSV), low, high) > 0)


def _grey_otsu(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return _otsu(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY))


def _otsu(grey: Any) -> NDArray[np.bool_]:
    return np.asarray(cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[1] > 0)


def _per_s(plant: Plant, pixels: tuple[int, int], window_s: float) -> float:
    """Return pictures per second of CPU of one thread."""
    settings, lines_of = (
        model_module("smart_farm", "settings").read_settings({}),
        model_module("smart_farm", "measure").lines_of,
    )
    data = cv2.imencode(".jpg", cv2.resize(plant.picture, pixels))[1]
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    count, begun = 0, time.process_time()
    while time.process_time() - begun < window_s:
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert len(list(lines_of(picture, settings))) == 8
        count += 1
    per_s = count / (time.process_time() - begun)
    cv2.setNumThreads(threads)
    return per_s
