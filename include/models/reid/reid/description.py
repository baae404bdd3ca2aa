"""What a person looks like, as a vector of length 1: the closer two are, the more alike their persons look.

``stripes`` needs no network. The person is cut into six stripes, overlapping by half; of each there is a histogram of
hue by saturation, one of brightness and one of the directions of edges. Points near the middle count more, for the
background is at the sides. Beforehand the colours are evened out by what is brightest in the whole frame (white patch):
two cameras see the same coat in different light. Square roots make the product of two histograms the Bhattacharyya
coefficient. Source: Lisanti and others, Person Re-identification by Iterative Re-weighted Sparse Ranking, PAMI 2015
(weighted histograms of overlapping stripes).

A network takes ``1 x 3 x height x width``, RGB, less ImageNet's mean and divided by its deviation, as Re-ID networks
are trained, and answers ``1 x D`` (or anything with one vector a picture).
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from reid.detection import NetworkError, Picture, find_file, load_network, picture_input, run_network

STRIPES = "stripes"
VERSION = 1
"""Goes up whenever the same person would get another vector: those of two versions are not to be compared."""
VECTOR_MAX = 4096

_WIDTH, _HEIGHT, _COUNT = 48, 128, 6
_HUES, _SATURATIONS, _VALUES, _DIRECTIONS = 12, 3, 8, 8
_MEAN = np.array([0.485, 0.456, 0.406], np.float32).reshape(1, 3, 1, 1)
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32).reshape(1, 3, 1, 1)

_WHITE, _WHITE_PERCENT, _GAIN_MIN, _GAIN_MAX = 190.0, 95, 0.5, 2.0
Vector = NDArray[np.float32]
Light = NDArray[np.float64]
"""How bright the brightest twentieth of a frame is at least, channel by channel: 3, 0 to 255."""


class Describer(Protocol):
    """Describes pictures of one person each.

    :param name: vectors of different names are not to be compared
    """

    name: str

    def describe(self, person: Picture, light: Light) -> Vector:
        """Return a vector of length 1; D x float32. :param light: of the frame that the person is cut from"""


def open_describer(name: str, size: tuple[int, int]) -> Describer:
    """Return the describer ``stripes``, or that of an ONNX file. :raises NetworkError: the file can't be used"""
    return Stripes() if name == STRIPES else Network(Path(name), size)


def light_of(frame: Picture) -> Light:
    """Return a frame's light, of every fourth point in both directions."""
    return np.asarray(np.percentile(frame[::4, ::4].reshape(-1, 3), _WHITE_PERCENT, axis=0), np.float64)


def encode(vector: Vector) -> str:
    """Return a vector as a line bears it: float16, little-endian, base64."""
    return base64.b64encode(vector.astype("<f2").tobytes()).decode()


def unit(vector: NDArray[np.floating]) -> Vector:
    """Return a vector with length 1; one of zeros points the same way in every direction."""
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or length < 1e-12:
        return np.full(vector.shape, 1 / np.sqrt(vector.size), np.float32)
    return (vector / length).astype(np.float32)


class Network:
    """A Re-ID network in an ONNX file.

    :param size: width and height of its input
    :raises NetworkError: the file can't be used
    """

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        self._network = load_network(path)
        self._path = find_file(path)
        self._size = size
        self.name = f"{path.stem[:40]}-{_digest(self._path)}"

    def describe(self, person: Picture, light: Light) -> Vector:
        """Return a vector of length 1; the network was trained in any light.

        :raises NetworkError: the answer is not one vector
        """
        given = (picture_input(person, self._size) - _MEAN) / _DEVIATION
        answer = run_network(self._network, given, self._path.name)
        if answer.shape[0] != 1 or not 2 <= answer.size <= VECTOR_MAX:
            raise NetworkError(f"{self._path.name} answers {answer.shape}; wanted: 1 x D, D from 2 to {VECTOR_MAX}")
        return unit(answer.reshape(-1))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


class Stripes:
    """Colours and edges by height, without a network."""

    name = f"{STRIPES}-{VERSION}"

    def __init__(self) -> None:
        across = (np.arange(_WIDTH) + 0.5) / _WIDTH * 2 - 1
        self._weights = np.tile(np.exp(-0.5 * (across / 0.45) ** 2).astype(np.float32), (_HEIGHT, 1))
        step = _HEIGHT / (_COUNT + 1)
        self._stripes = [slice(round(index * step), round((index + 2) * step)) for index in range(_COUNT)]

    def describe(self, person: Picture, light: Light) -> Vector:
        """Return a vector of length 1, 6 x 52 = 312 numbers."""
        gain = np.clip(_WHITE / np.maximum(light, 1), _GAIN_MIN, _GAIN_MAX).astype(np.float32)
        small = cv2.resize(person, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_AREA)
        small = np.clip(small * gain, 0, 255).astype(np.uint8)
        bins = [*_colours(small), _edges(small)]
        counts = (_HUES * _SATURATIONS, _VALUES, _DIRECTIONS)
        parts = []
        for rows in self._stripes:
            for (cells, weights), count in zip(bins, counts, strict=True):
                told = (self._weights[rows] * weights[rows]).ravel()
                histogram = np.bincount(cells[rows].ravel(), told, count)
                parts.append(np.sqrt(histogram / max(float(histogram.sum()), 1e-9)))
        return unit(np.concatenate(parts))


Cells = tuple[NDArray[np.intp], NDArray[np.float32]]


def _colours(picture: Picture) -> tuple[Cells, Cells]:
    """Return the cell of hue and saturation and that of brightness of each point, and what each point counts."""
    hue, saturation, value = (
        channel.astype(np.intp) for channel in cv2.split(cv2.cvtColor(picture, cv2.COLOR_BGR2HSV))
    )
    cells = hue * _HUES // 180 * _SATURATIONS + saturation * _SATURATIONS // 256
    colourful = (0.1 + value / 255).astype(np.float32)  # the hue of what is dark is noise
    return (cells, colourful), (value * _VALUES // 256, np.ones_like(colourful))


def _edges(picture: Picture) -> Cells:
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    polar = cv2.cartToPolar(across, down)
    strength, angle = np.asarray(polar[0], np.float32), np.asarray(polar[1], np.float32)
    return (angle % np.pi / np.pi * _DIRECTIONS).astype(np.intp) % _DIRECTIONS, strength
