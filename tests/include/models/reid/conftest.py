"""Real frames, and tiny networks in ONNX files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, save

FOLDER = Path(__file__).parents[4] / "include" / "models" / "reid"
VIDEO = "/usr/share/doc/opencv-doc/examples/data/vtest.avi"
FIRST, COUNT = 300, 12
Picture = NDArray[np.uint8]
Run = Callable[..., tuple[int, list[dict[str, Any]]]]


@pytest.fixture(scope="session")
def pictures() -> list[Picture]:
    """Twelve frames in which seven people walk."""
    capture = cv2.VideoCapture(VIDEO)
    capture.set(cv2.CAP_PROP_POS_FRAMES, FIRST)
    read = [capture.read()[1] for _ in range(COUNT)]
    capture.release()
    return [np.asarray(picture, np.uint8) for picture in read]


@pytest.fixture(scope="session")
def clip(pictures: list[Picture], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a video file."""
    file = tmp_path_factory.mktemp("clip") / "clip.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 10, (768, 576))
    for picture in pictures:
        writer.write(picture)
    writer.release()
    return file


@pytest.fixture(scope="session")
def run_model() -> Run:
    """Run it as its container does; returns exit status and lines."""

    def run(given: object = "", *arguments: str, **environment: str) -> tuple[int, list[dict[str, Any]]]:
        done = subprocess.run(
            [sys.executable, "-B", "-m", "reid", *arguments],
            cwd=FOLDER,
            env={"PATH": os.defpath, "EVC_INPUT": str(given), "OPENCV_LOG_LEVEL": "SILENT", **environment},
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert b"Traceback" not in done.stderr
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    return run


def constant_network(file: Path, answer: NDArray[np.float32], size: tuple[int, int] = (32, 24)) -> Path:
    """Write a network that always answers the same. :param size: width and height of its input"""
    width, height = size
    flat = 3 * width * height
    weights = {
        "w": np.zeros((flat, answer.size), np.float32),
        "b": answer.reshape(-1).astype(np.float32),
        "s": np.array(answer.shape, np.int64),
    }
    nodes = [
        helper.make_node("Flatten", ["in"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["all"]),
        helper.make_node("Reshape", ["all", "s"], ["out"]),
    ]
    return _write(file, nodes, weights, [1, 3, height, width], list(answer.shape))


def mean_colour_network(file: Path, size: tuple[int, int] = (16, 32)) -> Path:
    """Write a network that answers a picture's mean colour, 1 x 3. :param size: width and height of its input"""
    nodes = [
        helper.make_node("GlobalAveragePool", ["in"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["out"]),
    ]
    return _write(file, nodes, {}, [1, 3, size[1], size[0]], [1, 3])


def _write(file: Path, nodes: list[Any], weights: dict[str, Any], given: list[int], told: list[int]) -> Path:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, given)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, told)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(file))
    return file
