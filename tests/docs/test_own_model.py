"""docs/models.md, "Your own ONNX model": doing what it says, and nothing else, gives a model that works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from evc.building.source import read_source
from evc.fleet.results import read_line
from tests.docs.own_model import NAME, SECTION, page_files, write_model

COLOURS = {"0": (40, 30, 220), "1": (40, 220, 30), "2": (220, 40, 30)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The model's folder, as the page says."""
    return write_model(tmp_path / "models")


def run(folder: Path, given: Path, **environment: str) -> list[bytes]:
    done = subprocess.run(
        [sys.executable, "-B", folder / "classify.py"],
        env={"PATH": os.defpath, "EVC_INPUT": str(given), **environment},
        capture_output=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_it_takes_fewer_than_30_lines() -> None:
    texts = page_files()
    assert [Path(path).name for path in texts] == ["model.yaml", "Dockerfile", "classify.py"]
    assert sum(bool(line.strip()) for text in texts.values() for line in text.splitlines()) < 30


def test_evc_reads_it(folder: Path) -> None:
    source = read_source(folder.parent, NAME)
    assert source.model.name == NAME
    copied = re.findall(r"^COPY (.+) /app/$", (folder / "Dockerfile").read_text(), re.MULTILINE)
    assert {name for names in copied for name in names.split()} < {file.path for file in source.files}


def test_its_lines_are_results(folder: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for label, colour in COLOURS.items():
        cv2.imwrite(str(pictures / f"{label}.png"), np.full((50, 60, 3), colour, np.uint8))
    (pictures / "3.txt").write_text("no picture")
    kinds = {result.kind for result in read_source(folder.parent, NAME).model.results}
    read = [read_line(line, 0, kinds) for line in run(folder, pictures)]
    assert [(line.kind, line.label) for line in read] == [
        ("class", "0"),
        ("frame", None),
        ("class", "1"),
        ("frame", None),
        ("class", "2"),
        ("frame", None),
        ("error", None),
    ]
    assert all(0.33 < (line.score or 0) < 1 for line in read if line.kind == "class")
    assert all((line.latency_ms or 0) > 0 for line in read if line.kind == "frame")
    assert len(run(folder, pictures, EVC_LIMIT="1")) == 2
    assert len(run(folder, pictures / "1.png")) == 2


def test_the_page_says_the_commands_with_the_names_it_uses() -> None:
    for command in ("build_model", "deploy_model", "run_inference"):
        conf = re.search(rf"^airflow dags trigger {command} --conf '(.+)'$", SECTION, re.MULTILINE)
        assert conf, command
        assert json.loads(conf[1])["model"] == NAME
