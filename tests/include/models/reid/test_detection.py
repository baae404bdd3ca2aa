"""People in real frames, and the seam for detectors of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from reid.detection import Hog, Network, NetworkError, overlaps, read_answer
from tests.include.models.reid.conftest import Picture, constant_network

# in the first of the frames: middle of each person, read off the picture
PEOPLE = [(202, 192), (252, 185), (310, 188), (330, 252), (592, 193), (630, 195)]
SIZE = (32, 24)


@pytest.fixture(scope="module")
def detector() -> Hog:
    return Hog(0.4)


def test_people_are_found_where_they_are(detector: Hog, pictures: list[Picture]) -> None:
    found = detector.detect(pictures[0])
    inside = [any(left < x < right and top < y < bottom for left, top, right, bottom in found.boxes) for x, y in PEOPLE]
    assert sum(inside) >= 5
    assert len(found.boxes) <= len(PEOPLE) + 2
    assert (np.diff(found.scores) <= 0).all()
    heights = found.boxes[:, 3] - found.boxes[:, 1]
    assert (heights > found.boxes[:, 2] - found.boxes[:, 0]).all()


@pytest.mark.parametrize("level", [0, 127, 255])
def test_nobody_is_found_in_an_even_picture(detector: Hog, level: int) -> None:
    assert len(detector.detect(np.full((480, 640, 3), level, np.uint8)).boxes) == 0


@pytest.mark.parametrize("shape", [(1, 1), (2, 4000), (4000, 2)])
def test_odd_pictures_do_no_harm(detector: Hog, shape: tuple[int, int]) -> None:
    detector.detect(np.full((*shape, 3), 90, np.uint8))


def test_a_network_of_ones_own_that_tells_corners(tmp_path: Path) -> None:
    answer = np.array([[[0.25, 0.5, 0.5, 1.5, 0.9], [0.26, 0.5, 0.5, 1.0, 0.8], [0, 0, 0.1, 0.1, 0.1]]], np.float32)
    file = constant_network(tmp_path / "own.onnx", answer)
    found = Network(file, "corners", SIZE, 0.5).detect(np.zeros((100, 200, 3), np.uint8))
    assert np.allclose(found.boxes, [[50, 50, 100, 100]])  # one of two alike, cut at the edge
    assert np.allclose(found.scores, [0.9])


@pytest.mark.parametrize("layout", ["yolov5", "yolov8"])
def test_yolo_exports(tmp_path: Path, layout: str) -> None:
    # a person and a dog (class 1), in points of the network's own picture of 32 x 24
    rows = np.array([[16, 6, 4, 8, 0.9, 0.1], [8, 6, 4, 8, 0.2, 0.9]], np.float32)
    answer = np.insert(rows, 4, 0.9, axis=1)[None] if layout == "yolov5" else rows.T[None]
    file = constant_network(tmp_path / "yolo.onnx", answer)
    found = Network(file, layout, SIZE, 0.1).detect(np.zeros((100, 200, 3), np.uint8))  # shrunk to 32 x 16
    assert np.allclose(found.boxes, [[14 * 6.25, 2 * 6.25, 18 * 6.25, 10 * 6.25]])
    assert np.allclose(found.scores, [0.9 * 0.9 if layout == "yolov5" else 0.9])


def test_what_can_not_be_used_says_why(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="no such file"):
        Network(Path("away.onnx"), "corners", SIZE, 0.5)
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(NetworkError, match="can't read it"):
        Network(tmp_path / "text.onnx", "corners", SIZE, 0.5)
    file = constant_network(tmp_path / "own.onnx", np.zeros((1, 3, 4), np.float32))
    for layout in ("corners", "yolov5", "yolov8"):
        with pytest.raises(NetworkError, match="layout"):
            Network(file, layout, SIZE, 0.5).detect(np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(NetworkError, match="does not take"):
        Network(file, "corners", (64, 64), 0.5).detect(np.zeros((9, 9, 3), np.uint8))


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 9)),
        elements=st.floats(-9, 9, width=32),
    )
)
def test_any_answer_is_read_or_refused(answer: NDArray[np.float32]) -> None:
    for layout in ("corners", "yolov5", "yolov8"):
        try:
            boxes, scores = read_answer(answer, layout)
        except NetworkError:
            continue
        assert boxes.shape == (len(scores), 4)


def test_overlaps() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]], np.float32)
    assert np.allclose(overlaps(boxes, boxes), np.array([[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 1]]))
