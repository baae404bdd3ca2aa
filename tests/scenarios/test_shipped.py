"""The scenarios that come with the project, end to end on a real fleet with real pictures."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import cv2
import pytest

from bench.plants import EXAMPLES
from evc.hooks.fleet import FleetHook
from evc.scenarios.bundle import ScenarioBundle
from evc.store.nodes import store_node
from tests.fleet.test_rollouts import states
from tests.include.models.reid.conftest import Picture, pictures
from tests.servers.airflow import DagRunner
from tests.servers.edge import EdgeFleet
from tests.servers.edge_node import EdgeNode

__all__ = ["pictures"]

pytestmark = [pytest.mark.fleet, pytest.mark.xdist_group("fleet")]

INCLUDE = Path(__file__).parents[2] / "include"


@pytest.fixture
def runner(
    dag_runner: DagRunner, edge_fleet: EdgeFleet, edge_nodes: list[EdgeNode], builder: EdgeNode, tmp_path: Path
) -> DagRunner:
    """Two nodes of the groups that the scenarios choose, a builder with the base, sources of the test's own."""
    registry = edge_fleet.registry
    edge_fleet.load_opencv_base()
    dag_runner.connect(edge_fleet)
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "models").mkdir()
    dag_runner.setting("models_folder", str(tmp_path / "models"))
    dag_runner.setting("scenarios_folder", str(tmp_path / "scenarios"))
    hook = FleetHook(logging.getLogger("tests"))
    with hook.engine.begin() as connection:
        store_node(connection, builder.node(), int(time.time()))
        for node in edge_nodes[:2]:
            node.trust(registry)
            store_node(connection, node.node(groups=("farm", "cameras")), int(time.time()))
    hook.publish()
    return dag_runner


def rows(runner: DagRunner, query: str) -> list[Any]:
    with sqlite3.connect(runner.state_folder / "metrics.db", timeout=30) as connection:
        return connection.execute(query).fetchall()


def run(runner: DagRunner, folder: Path, name: str, **conf: Any) -> dict[str, str]:
    """Run a scenario as it comes, but for where there is a builder and what it builds from."""
    shutil.copytree(INCLUDE / "models" / name, folder / "models" / name, ignore=shutil.ignore_patterns("__pycache__"))
    text = (INCLUDE / "scenarios" / f"{name}.yaml").read_text()
    (folder / "scenarios" / f"{name}.yaml").write_text(text.replace("builder: build-1", "builder: builder"))
    bundle = ScenarioBundle(name="scenarios")
    bundle.initialize()
    base = {"BASE": "base/opencv:4"}
    return runner.run_file(bundle.path / f"{name}.py", f"scenario_{name}", arguments=base, **conf)


def test_smart_farm(runner: DagRunner, edge_nodes: list[EdgeNode], tmp_path: Path) -> None:
    for node in edge_nodes[:2]:
        for name in ("alphamat/input_images/plant.jpg", "data/aloeL.jpg"):
            node.write_file(f"/srv/evc/pictures/{Path(name).name}", (EXAMPLES / name).read_bytes())
    tasks = run(runner, tmp_path, "smart_farm")
    assert (tasks["build"], states(tasks, "inference.infer"), tasks["finish"]) == (
        "success",
        ["success"] * 2,
        "success",
    )
    covers = "SELECT DISTINCT round(value, 1) FROM inference_results WHERE kind = 'canopy_cover' ORDER BY 1"
    assert rows(runner, covers) == [(0.2,), (0.4,)]  # the aloe, the potted plant
    performance = "SELECT name, frames, errors, frames_per_s > 0, latency_p50_ms > 0 FROM inference_runs r"
    assert rows(runner, f"{performance} JOIN nodes n ON n.id = r.node_id ORDER BY name") == [
        ("edge-1", 2, 0, 1, 1),
        ("edge-2", 2, 0, 1, 1),
    ]
    ((nodes, status, message),) = rows(runner, "SELECT nodes, status, message FROM scenario_runs")
    assert (nodes, status) == ('["edge-1", "edge-2"]', "succeeded")
    assert message.startswith("2 of 2 nodes got through")


def test_reid(runner: DagRunner, edge_nodes: list[EdgeNode], pictures: list[Picture], tmp_path: Path) -> None:
    for node in edge_nodes[:2]:
        for number, picture in enumerate(pictures):
            jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
            node.write_file(f"/srv/people/{number:03d}.jpg", jpeg)
    tasks = run(runner, tmp_path, "reid", input="/srv/people")
    assert (tasks["build"], tasks["match_identities"], tasks["finish"]) == ("success", "success", "success")
    seen = "SELECT name, count(*) > 2 FROM inference_results r JOIN nodes n ON n.id = r.node_id WHERE kind = 'person'"
    assert rows(runner, f"{seen} GROUP BY name ORDER BY name") == [("edge-1", 1), ("edge-2", 1)]
    # both see the same people at the same time; nobody knows where the nodes are, so nothing forbids that
    ((people, of_both),) = rows(runner, "SELECT count(*), sum(nodes = 2) FROM identities WHERE gallery = 'reid'")
    assert people == of_both > 0
    visits = "SELECT count(*), count(DISTINCT node_id) FROM identity_visits WHERE gallery = 'reid'"
    ((count, nodes),) = rows(runner, visits)
    assert (count >= 2 * people, nodes) == (True, 2)
    # no picture has left the nodes
    assert rows(runner, "SELECT count(*) FROM inference_results WHERE payload LIKE '%crop%'") == [(0,)]
