"""People in a picture: by the detector that is in OpenCV, or by a network in an ONNX file that OpenCV runs.

What a network takes and answers:

**In:** ``1 x 3 x height x width``, RGB, 0 to 1. ``corners`` squeezes the picture to that size; the YOLO layouts keep
its shape and leave the rest grey, on the right or below.

**Out**, by layout:

- ``corners``: ``1 x N x 5``: left, top, right, bottom (0 to 1 of the input's size) and score;
- ``yolov8``: ``1 x (4 + classes) x N``: middle x, middle y, width, height (points of the input) and a score a class;
- ``yolov5``: ``1 x N x (5 + classes)``: the same four, how sure it is of a thing, and a score a class.

Class 0 is the person, as in COCO. Boxes that overlap a better one are dropped here; the file must not do so itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

HOG = "hog"
HOG_SCALE, HOG_SIDE_MAX = 1.5, 1600
OVERLAP_MAX = 0.45
INSIDE_MAX = 0.7
"""A box of which so much lies inside a better one is a part of the same person."""
GREY = 114
Picture = NDArray[np.uint8]
Boxes = NDArray[np.float32]
"""N x 4: left, top, right, bottom, in points of the picture."""


class NetworkError(Exception):
    """An ONNX file is not there, can't be run by this OpenCV, or answers in another shape than its layout."""


@dataclass(frozen=True, slots=True)
class Found:
    """People in one picture, best first.

    :param boxes: N x 4
    :param scores: N, 0 to 1
    """

    boxes: Boxes
    scores: NDArray[np.float32]


def find_file(path: Path) -> Path:
    """Return a file; a name without a folder may also lie beside this module. :raises NetworkError: not there"""
    beside = Path(__file__).with_name(path.name)
    file = path if path.exists() or path.parent != Path() else beside
    if not file.is_file():
        raise NetworkError(f"{path}: no such file")
    return file


def load_network(path: Path) -> Any:
    """Return the network of an ONNX file. :raises NetworkError: not there, or not to be read"""
    file = find_file(path)
    try:
        return cv2.dnn.readNetFromONNX(str(file))
    except cv2.error as error:
        raise NetworkError(f"{path}: OpenCV {cv2.__version__} can't read it: {_first_line(error)}") from None


def picture_input(picture: Picture, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return a picture as networks take it: 1 x 3 x height x width, RGB, 0 to 1. :param size: width and height"""
    return np.asarray(cv2.dnn.blobFromImage(picture, 1 / 255, size, swapRB=True), np.float32)


def run_network(network: Any, given: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """Return the first output. :raises NetworkError: it does not take what was given"""
    try:
        network.setInput(given)
        answer: NDArray[np.float32] = network.forward()
    except cv2.error as error:
        raise NetworkError(f"{name}: does not take {given.shape}: {_first_line(error)}") from None
    return answer


class Detector(Protocol):
    """Finds people."""

    def detect(self, picture: Picture) -> Found:
        """Return the people in a picture. :raises NetworkError: the detector can't be used"""


def open_detector(name: str, layout: str, size: tuple[int, int], score_min: float) -> Detector:
    """Return the detector that ``name`` means: ``hog``, or an ONNX file. :raises NetworkError: it can't be used"""
    return Hog(score_min) if name == HOG else Network(Path(name), layout, size, score_min)


class Hog:
    """Histograms of oriented gradients and a linear SVM, trained on the INRIA person set; both are in OpenCV.

    Source: Dalal and Triggs, CVPR 2005; ``cv2.HOGDescriptor_getDefaultPeopleDetector``.

    :param score_min: what is less sure is no person; a score is the SVM's margin through the logistic function
    """

    def __init__(self, score_min: float) -> None:
        self._hog = cv2.HOGDescriptor()
        self._hog.setSVMDetector(np.asarray(cv2.HOGDescriptor.getDefaultPeopleDetector(), np.float32))
        self._score_min = score_min

    def detect(self, picture: Picture) -> Found:
        """Return the people in a picture; who is smaller than about 85 points is not found."""
        height, width = picture.shape[:2]
        # its window is 64 x 128: in a larger picture smaller people fill it
        factor = min(HOG_SCALE, HOG_SIDE_MAX / max(height, width))
        shape = (round(width * factor), round(height * factor))
        if min(shape[0] / 64, shape[1] / 128) < 1:
            return Found(np.empty((0, 4), np.float32), np.empty(0, np.float32))
        large = cv2.resize(picture, shape, interpolation=cv2.INTER_LINEAR)
        found, weights = self._hog.detectMultiScale(large, winStride=(8, 8), padding=(8, 8), scale=1.1)
        if not len(found):
            return Found(np.empty((0, 4), np.float32), np.empty(0, np.float32))
        boxes = np.asarray(found, np.float32) / factor
        boxes[:, 2:] += boxes[:, :2]
        # the window holds a margin around a person, a sixth at each side
        margin = (boxes[:, 2:] - boxes[:, :2]) * np.array([0.15, 0.08], np.float32)
        boxes[:, :2] += margin
        boxes[:, 2:] -= margin
        scores = 1 / (1 + np.exp(-2 * np.asarray(weights, np.float32).ravel()))
        sure = scores >= self._score_min
        return _best(_inside(boxes[sure], picture), scores[sure].astype(np.float32))


class Network:
    """Finds people by a network of one's own.

    :param path: an ONNX file
    :param layout: of its output: ``corners``, ``yolov5``, ``yolov8``
    :param size: width and height of its input
    :param score_min: what is less sure is no person
    :raises NetworkError: the file can't be used
    """

    def __init__(self, path: Path, layout: str, size: tuple[int, int], score_min: float) -> None:
        self._network = load_network(path)
        self._name = path.name
        self._layout = layout
        self._size = size
        self._score_min = score_min

    def detect(self, picture: Picture) -> Found:
        """Return the people in a picture. :raises NetworkError: the network's answer does not fit its layout"""
        if self._layout == "corners":
            height, width = picture.shape[:2]
            scale: tuple[float, float] = (width, height)
            given = picture_input(picture, self._size)
        else:
            factor = min(self._size[0] / picture.shape[1], self._size[1] / picture.shape[0])
            scale = (1 / factor, 1 / factor)
            given = _padded(picture, self._size, factor)
        boxes, scores = read_answer(run_network(self._network, given, self._name), self._layout)
        sure = scores >= self._score_min
        boxes = boxes[sure] * np.array([*scale, *scale], np.float32)
        return _best(_inside(boxes, picture), scores[sure])


def read_answer(answer: NDArray[np.float32], layout: str) -> tuple[Boxes, NDArray[np.float32]]:
    """Return boxes (N x 4, left, top, right, bottom in the network's own measure) and scores (N).

    :raises NetworkError: the answer has another shape than the layout
    """
    wanted = {"corners": "1 x N x 5", "yolov8": "1 x (4 + classes) x N", "yolov5": "1 x N x (5 + classes)"}[layout]
    table = answer[0] if answer.ndim == 3 and answer.shape[0] == 1 else np.empty((0, 0), np.float32)
    if layout == "yolov8":
        table = table.T
    columns = table.shape[1]
    if columns < 5 + (layout == "yolov5") or (layout == "corners" and columns != 5):
        raise NetworkError(f"the detector answers {answer.shape}; layout {layout} is {wanted}")
    if layout == "corners":
        return table[:, :4], table[:, 4]
    classes = table[:, 5:] if layout == "yolov5" else table[:, 4:]
    scores = classes[:, 0] * table[:, 4] if layout == "yolov5" else classes[:, 0].copy()
    scores[classes.argmax(axis=1) != 0] = 0  # it is surer of something else
    half = table[:, 2:4] / 2
    return np.concatenate([table[:, :2] - half, table[:, :2] + half], axis=1), scores


def overlaps(left: Boxes, right: Boxes) -> NDArray[np.float32]:
    """Return the intersection over union of each with each, N x M, 0 to 1."""
    common, area_left, area_right = _areas(left, right)
    return np.asarray(common / np.maximum(area_left[:, None] + area_right[None, :] - common, 1e-6), np.float32)


def _areas(left: Boxes, right: Boxes) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    low = np.maximum(left[:, None, :2], right[None, :, :2])
    high = np.minimum(left[:, None, 2:], right[None, :, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=2)
    return common, np.prod(left[:, 2:] - left[:, :2], axis=1), np.prod(right[:, 2:] - right[:, :2], axis=1)


def _padded(picture: Picture, size: tuple[int, int], factor: float) -> NDArray[np.float32]:
    height, width = (max(1, round(side * factor)) for side in picture.shape[:2])
    canvas = np.full((size[1], size[0], 3), GREY, np.uint8)
    canvas[:height, :width] = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
    return picture_input(canvas, size)


def _inside(boxes: Boxes, picture: Picture) -> Boxes:
    height, width = picture.shape[:2]
    return np.asarray(np.clip(boxes, 0, [width, height, width, height]), np.float32)


def _best(boxes: Boxes, scores: NDArray[np.float32]) -> Found:
    """Drop boxes without a size and those that a better one overlaps or holds."""
    real = ((boxes[:, 2:] - boxes[:, :2]) >= 2).all(axis=1)
    boxes, scores = boxes[real], scores[real]
    order = np.argsort(-scores, kind="stable")[:1000]
    boxes, scores = boxes[order], scores[order]
    common, areas, _ = _areas(boxes, boxes)
    part = common / np.maximum(np.minimum(areas[:, None], areas[None, :]), 1e-6)
    too_close = np.triu((overlaps(boxes, boxes) > OVERLAP_MAX) | (part > INSIDE_MAX), 1)
    kept = np.ones(len(boxes), bool)
    for index in range(len(boxes)):
        if kept[index]:
            kept &= ~too_close[index]
    return Found(boxes[kept], scores[kept])


def _first_line(error: cv2.error) -> str:
    return str(getattr(error, "err", None) or error).strip().splitlines()[0][:200]
