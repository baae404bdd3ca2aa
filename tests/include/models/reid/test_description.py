"""Looks: alike for one person, different for two, in any light; and the seam for Re-ID networks of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reid import watch
from reid.description import Stripes, light_of, open_describer, unit
from reid.detection import Hog, NetworkError, overlaps
from tests.include.models.reid.conftest import Picture, constant_network, mean_colour_network

# somebody in the first frame: left, top, right, bottom
BLUE_AND_RED = (578, 155, 606, 232)


def cut(picture: Picture, box: tuple[int, int, int, int]) -> Picture:
    left, top, right, bottom = box
    return picture[top:bottom, left:right]


def test_people_are_most_alike_to_themselves_a_moment_later(pictures: list[Picture]) -> None:
    detector, describer = Hog(0.4), Stripes()
    found = [detector.detect(picture).boxes for picture in (pictures[0], pictures[3])]
    looks = [
        np.stack([describer.describe(watch.cut(picture, box), light_of(picture)) for box in boxes])
        for picture, boxes in zip((pictures[0], pictures[3]), found, strict=True)
    ]
    assert looks[0].shape[1] == 312
    assert np.allclose(np.linalg.norm(looks[0], axis=1), 1, atol=1e-5)
    close, alike = overlaps(*found), looks[0] @ looks[1].T
    here = close.max(axis=1) > 0.3
    assert here.sum() >= 4
    assert (alike.argmax(axis=1) == close.argmax(axis=1))[here].mean() >= 0.7


def test_light_matters_little(pictures: list[Picture]) -> None:
    picture, describer = pictures[0], Stripes()
    tinted = np.clip(picture * np.array([1.2, 1.0, 0.8]), 0, 255).astype(np.uint8)
    person, same = cut(picture, BLUE_AND_RED), cut(tinted, BLUE_AND_RED)
    light = light_of(picture)
    evened = describer.describe(person, light) @ describer.describe(same, light_of(tinted))
    assert evened > describer.describe(person, light) @ describer.describe(same, light)
    assert evened > 0.95


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2000, 1000)])
def test_odd_pictures_have_looks_too(shape: tuple[int, int]) -> None:
    for level in (0, 255):
        vector = Stripes().describe(np.full((*shape, 3), level, np.uint8), np.zeros(3))
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_a_network_of_ones_own(tmp_path: Path, pictures: list[Picture]) -> None:
    file = mean_colour_network(tmp_path / "osnet.onnx")
    describer = open_describer(str(file), (16, 32))
    person = np.full((64, 32, 3), (30, 60, 120), np.uint8)  # blue, green, red
    wanted = (np.array([120, 60, 30]) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert np.allclose(describer.describe(person, light_of(person)), unit(wanted), atol=1e-3)
    assert describer.name.startswith("osnet-")
    other = constant_network(tmp_path / "other.onnx", np.ones((1, 4), np.float32))
    assert open_describer(str(other), (32, 24)).name != describer.name


def test_an_answer_that_is_no_vector_is_refused(tmp_path: Path) -> None:
    file = constant_network(tmp_path / "one.onnx", np.ones((1, 1), np.float32))
    with pytest.raises(NetworkError, match="1 x D"):
        open_describer(str(file), (32, 24)).describe(np.zeros((9, 9, 3), np.uint8), np.zeros(3))
    with pytest.raises(NetworkError, match="no such file"):
        open_describer("away.onnx", (32, 24))


def test_a_vector_without_a_length_has_one_after_all() -> None:
    for vector in (np.zeros(4), np.full(4, np.nan)):
        assert np.allclose(unit(vector), 0.5)
