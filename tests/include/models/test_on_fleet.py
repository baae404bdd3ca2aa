"""Models built from ``base/opencv:4``, where no package registry is reached, and run on a node with real pictures."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from bench.plants import EXAMPLES
from evc.building.source import read_source
from evc.hooks.fleet import FleetHook
from evc.store.nodes import store_node
from tests.docs.own_model import NAME, write_model
from tests.servers.airflow import DagRunner
from tests.servers.edge import EdgeFleet
from tests.servers.edge_node import EdgeNode

pytestmark = [pytest.mark.fleet, pytest.mark.xdist_group("fleet")]

MODELS = Path(__file__).parents[3] / "include" / "models"
MAX_IMAGE_BYTES = 400_000_000


@pytest.fixture
def runner(
    dag_runner: DagRunner, edge_fleet: EdgeFleet, clean_node: EdgeNode, builder: EdgeNode, tmp_path: Path
) -> DagRunner:
    """A builder with the base, a node, and models of the test's own."""
    registry = edge_fleet.registry
    edge_fleet.load_opencv_base()
    builder.run("rm", "-rf", "/root/.evc")
    dag_runner.connect(edge_fleet)
    dag_runner.setting("models_folder", str(tmp_path / "models"))
    clean_node.trust(registry)
    hook = FleetHook(logging.getLogger("tests"))
    with hook.engine.begin() as connection:
        for node in (builder, clean_node):
            store_node(connection, node.node(), int(time.time()))
    hook.publish()
    return dag_runner


def rows(runner: DagRunner, query: str) -> list[Any]:
    with sqlite3.connect(runner.state_folder / "metrics.db", timeout=30) as connection:
        return connection.execute(query).fetchall()


def build_and_run(runner: DagRunner, node: EdgeNode, model: str, given: str) -> str:
    """Build and run a model's version 1.0; returns the image's id on the node."""
    build = {"model": model, "builder": "builder", "arguments": {"BASE": "base/opencv:4"}}
    assert runner.run("build_model", **build) == {"build": "success"}
    with node.engine() as client:
        assert not client.images.list()
    ran = runner.run("run_inference", model=model, tag="1.0", nodes=[node.name], input=given, limit=3, timeout_s=120)
    assert ran == {"plan": "success", "infer[0]": "success"}
    with node.engine() as client:
        (image,) = client.images.list()
        assert image.attrs["Size"] < MAX_IMAGE_BYTES
        return str(image.id)


def test_the_smart_farm(runner: DagRunner, clean_node: EdgeNode, tmp_path: Path) -> None:
    shutil.copytree(MODELS / "smart_farm", tmp_path / "models" / "smart_farm")
    for name in ("alphamat/input_images/plant.jpg", "data/aloeL.jpg"):
        clean_node.write_file(f"/srv/plants/{Path(name).name}", (EXAMPLES / name).read_bytes())
    image = build_and_run(runner, clean_node, "smart_farm", "/srv/plants")
    health = read_source(MODELS, "smart_farm").model.health.command or []
    clean_node.run("docker", "run", "--rm", "--entrypoint", health[0], image, *health[1:])
    covers = rows(runner, "SELECT round(value, 1) FROM inference_results WHERE kind = 'canopy_cover' ORDER BY seq")
    assert covers == [(0.2,), (0.4,)]  # the aloe, the potted plant
    kinds = dict(rows(runner, "SELECT kind, count(*) FROM inference_results GROUP BY 1"))
    assert kinds == {
        **dict.fromkeys(("canopy_cover", "exg", "exgr", "gli", "ngrdi", "vari", "mgrvi", "health", "frame"), 2),
        **dict.fromkeys(("change", "summary"), 1),
    }
    ran = rows(runner, "SELECT status, frames, errors, malformed, latency_p50_ms > 0 FROM inference_runs")
    assert ran == [("succeeded", 2, 0, 0, 1)]


def test_ones_own_onnx_model_as_the_page_says(runner: DagRunner, clean_node: EdgeNode, tmp_path: Path) -> None:
    write_model(tmp_path / "models")
    green = cv2.imencode(".png", np.full((40, 40, 3), (40, 220, 30), np.uint8))[1]
    clean_node.write_file("/srv/pictures/green.png", bytes(green))
    build_and_run(runner, clean_node, NAME, "/srv/pictures")
    assert rows(runner, "SELECT label, score > 0.33 FROM inference_results WHERE kind = 'class'") == [("1", 1)]


def test_the_base_can_be_had_from_the_registry(edge_fleet: EdgeFleet, clean_node: EdgeNode) -> None:
    edge_fleet.push_opencv_base()
    clean_node.trust(edge_fleet.registry)
    image = f"{edge_fleet.registry.address(edge_fleet.registry.pull)}/base/opencv:4"
    said = clean_node.run("docker", "run", "--rm", image, "python3", "-c", "import cv2, numpy; print(cv2.__version__)")
    assert said.strip().endswith(cv2.__version__)
