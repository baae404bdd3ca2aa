"""The model as its container runs it: its lines, settings, exit status, and what never leaves the node."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from evc.building.source import read_source
from evc.fleet.results import read_line
from evc.identities.embedding import decode
from reid.settings import SettingError, read_settings
from tests.include.models.reid.conftest import COUNT, FOLDER, Run, constant_network

PROJECT = FOLDER.parents[2]


def test_lines_of_a_video(run_model: Run, clip: Path) -> None:
    status, lines = run_model(clip, DESCRIBE_EVERY="2")
    assert status == 0
    people = [line for line in lines if line["kind"] == "person"]
    frames = [line for line in lines if line["kind"] == "frame"]
    assert [line["frame"] for line in frames] == list(range(COUNT))
    assert min(line["frame"] for line in people) == 2  # the third sighting makes a track
    assert 5 <= len({line["label"] for line in people}) <= 9
    assert lines[-1] | {"duration_s": 0} == {"kind": "summary", "frames": COUNT, "duration_s": 0}
    described = [line for line in people if "embedding" in line]
    assert {line["frame"] for line in described if line["label"] == "1"} <= set(range(2, COUNT, 2))
    assert {line["describer"] for line in described} == {"stripes-1"}
    assert {decode(line["embedding"]).shape for line in described} == {(312,)}
    for line in people:
        left, top, width, height = line["box"]
        assert 0 <= left <= left + width <= 768
        assert 0 <= top <= top + height <= 576


def test_no_picture_leaves_the_node_unless_asked_for(run_model: Run, clip: Path) -> None:
    _, lines = run_model(clip)
    known = {"kind", "frame", "latency_ms", "label", "score", "box", "embedding", "describer"}
    assert {key for line in lines if line["kind"] == "person" for key in line} == known
    _, lines = run_model(clip, CROPS="on", EVC_LIMIT="4")
    crops = [line["crop"] for line in lines if "crop" in line]
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(crops[0]), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape[0] <= 128
    assert max(len(json.dumps(line)) for line in lines) < 20_000


def test_its_lines_keep_the_contract(run_model: Run, clip: Path) -> None:
    kinds = {result.kind for result in read_source(FOLDER.parent, "reid").model.results}
    _, lines = run_model(clip, BEGIN_TS="1700000000", EVC_LIMIT="5")
    read = [read_line(json.dumps(line).encode(), 0, kinds) for line in lines]
    assert {result.kind for result in read} == {"person", "frame", "summary"}
    assert {result.ts for result in read if result.kind == "person"} == {1_700_000_000}


def test_tracks_of_two_starts_of_a_camera_differ(run_model: Run, clip: Path) -> None:
    _, lines = run_model(clip, EVC_MODE="continuous", EVC_LIMIT="4")
    labels = {line["label"] for line in lines if line["kind"] == "person"}
    assert all(re.fullmatch(r"[0-9a-f]{8}-\d+", label) for label in labels)


def test_a_detector_of_ones_own_by_naming_a_file(run_model: Run, clip: Path, tmp_path: Path) -> None:
    answer = np.array([[[0.4, 0.4, 0.5, 0.6, 0.9]]], np.float32)
    file = constant_network(tmp_path / "own.onnx", answer)
    status, lines = run_model(clip, DETECTOR=str(file), DETECTOR_SIZE="32x24", EVC_LIMIT="3")
    assert status == 0
    assert [line["box"] for line in lines if line["kind"] == "person"] == [[307.2, 230.4, 76.8, 115.2]]


def test_the_self_test(run_model: Run, tmp_path: Path) -> None:
    assert run_model("", "--self-test") == (0, [])
    status, [line] = run_model("", "--self-test", DETECTOR="/models/away.onnx")
    assert (status, line["kind"]) == (2, "error")
    blind = constant_network(tmp_path / "blind.onnx", np.ones((1, 8), np.float32))
    assert run_model("", "--self-test", DESCRIBER=str(blind), DESCRIBER_SIZE="32x24")[0] == 1


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"SCORE_MIN": "2"}, "SCORE_MIN is '2'; allowed: 0.01 to 0.99"),
        ({"DETECTOR_LAYOUT": "ssd"}, "DETECTOR_LAYOUT is 'ssd'; allowed: corners, yolov5, yolov8"),
        ({"DETECTOR_SIZE": "300"}, "DETECTOR_SIZE is '300'; allowed: WIDTHxHEIGHT"),
        ({"HITS_MIN": "0"}, "HITS_MIN is '0'; allowed: a whole number from 1"),
        ({"CROPS": "yes"}, "CROPS is 'yes'; allowed: off, on"),
        ({"SCORE_MIN": "nan"}, "SCORE_MIN"),
    ],
)
def test_a_setting_that_does_not_fit_says_what_would(environment: dict[str, str], message: str) -> None:
    with pytest.raises(SettingError, match=re.escape(message)):
        read_settings(environment)


def test_what_it_can_not_look_at_is_an_error_line(run_model: Run, tmp_path: Path) -> None:
    for given in ("", tmp_path / "away.avi"):
        status, [line] = run_model(given)
        assert (status, line["kind"]) == (1, "error")
    (tmp_path / "a.jpg").write_text("x")
    status, lines = run_model(tmp_path)
    assert (status, [line["kind"] for line in lines]) == (1, ["error", "summary"])


def test_defaults_are_those_of_model_yaml() -> None:
    told = read_source(FOLDER.parent, "reid").model.environment
    assert read_settings(told) == read_settings({})
    names = set(re.findall(r'"([A-Z_]+)"', (FOLDER / "reid" / "settings.py").read_text()))
    assert {name for name in names if not name.startswith("EVC_")} == {*told, "BEGIN_TS"}


def test_the_image_installs_what_the_project_has_locked() -> None:
    lock = (PROJECT / "requirements.lock").read_text()
    blocks = re.findall(r"^\S.*(?:\\\n    --hash=\S+ ?)+", (FOLDER / "requirements.txt").read_text(), re.MULTILINE)
    assert [re.split("[= ]", block)[0] for block in blocks] == ["numpy", "numpy", "opencv-python-headless"]
    assert all(block in lock for block in blocks)
