"""A scenario on a real fleet: collected, built, rolled out and run by its DAG."""

from __future__ import annotations

import logging
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from evc.hooks.fleet import FleetHook
from evc.scenarios.bundle import ScenarioBundle
from evc.store.nodes import store_node
from tests.fleet.test_lifecycle import write_model
from tests.fleet.test_rollouts import states
from tests.servers.airflow import DagRunner
from tests.servers.edge import EdgeFleet
from tests.servers.edge_node import EdgeNode

pytestmark = [pytest.mark.fleet, pytest.mark.xdist_group("fleet")]

SCENARIO = """\
description: Counts what is to be seen on the nodes of the farm
model:
  name: counter
nodes:
  groups: [edge]
  labels: {site: north}
collect: true
build:
  builder: builder
rollout:
  waves: [1, "100%"]
inference:
  timeout_s: 60
results: [object]
events:
  - {kind: object, statistic: count, above: 4, severity: info, message: much to see}
  - {kind: object, statistic: count, above: 5, severity: error}
"""


@pytest.fixture
def runner(
    dag_runner: DagRunner, edge_fleet: EdgeFleet, edge_nodes: list[EdgeNode], builder: EdgeNode, tmp_path: Path
) -> DagRunner:
    """Three nodes, two of them in the north; a model, a scenario."""
    registry = edge_fleet.registry
    dag_runner.connect(edge_fleet)
    write_model(tmp_path / "models" / "counter")
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "counting.yaml").write_text(SCENARIO)
    dag_runner.setting("models_folder", str(tmp_path / "models"))
    dag_runner.setting("scenarios_folder", str(tmp_path / "scenarios"))
    hook = FleetHook(logging.getLogger("tests"))
    with hook.engine.begin() as connection:
        store_node(connection, builder.node(), int(time.time()))
        for number, node in enumerate(edge_nodes):
            node.trust(registry)
            site = {"site": "north" if number else "south"}
            store_node(connection, node.node(groups=("edge",), labels=site), int(time.time()))
    hook.publish()
    return dag_runner


def rows(runner: DagRunner, query: str) -> list[Any]:
    with sqlite3.connect(runner.state_folder / "metrics.db", timeout=30) as connection:
        return connection.execute(query).fetchall()


def test_the_whole_of_it_runs_and_again_changes_nothing(runner: DagRunner) -> None:
    bundle = ScenarioBundle(name="scenarios")
    bundle.initialize()
    tasks = runner.run_file(bundle.path / "counting.py", "scenario_counting")
    assert (tasks["select"], tasks["build"], tasks["rollout.finish"]) == ("success", "success", "skipped")
    assert states(tasks, "rollout.wave_2.deploy") == ["success"]
    assert states(tasks, "inference.infer") == ["success"] * 2
    north = "SELECT name FROM nodes WHERE name IN ('edge-2', 'edge-3') ORDER BY name"
    # another DAG that is due at the same time gives its run the same id
    ((swept,),) = rows(runner, "SELECT DISTINCT run_id FROM sweeps")
    assert swept.startswith("scenario_")
    up = "SELECT DISTINCT name FROM node_samples JOIN nodes ON nodes.id = node_id WHERE up = 1 ORDER BY name"
    deployed = "SELECT name FROM assignments JOIN nodes ON nodes.id = node_id ORDER BY name"
    assert rows(runner, up) == rows(runner, deployed) == rows(runner, north)
    counted = "SELECT name, count(*) FROM inference_results r JOIN nodes n ON n.id = r.node_id GROUP BY name"
    assert rows(runner, counted) == [("edge-2", 5), ("edge-3", 5)]
    assert rows(runner, "SELECT DISTINCT r.digest = b.digest FROM inference_results r, builds b") == [(1,)]

    took = (
        "SELECT scenario, content, nodes, status, message, digest = (SELECT min(digest) FROM builds) FROM scenario_runs"
    )
    through = ("succeeded", "2 of 2 nodes got through, 2 events", 1)
    assert rows(runner, took) == [("counting", SCENARIO, '["edge-2", "edge-3"]', *through)]
    events = "SELECT name, kind, severity, message FROM node_events e JOIN nodes n ON n.id = e.node_id WHERE kind = "
    said = ("threshold", "info", "object: count 5 is above 4: much to see")
    assert rows(runner, f"{events}'threshold' ORDER BY name") == [("edge-2", *said), ("edge-3", *said)]

    containers = rows(runner, "SELECT container_id FROM assignments ORDER BY node_id")
    tasks = runner.run_file(bundle.path / "counting.py", "scenario_counting")
    assert states(tasks, "inference.infer") == ["success"] * 2
    assert rows(runner, "SELECT status FROM builds ORDER BY id") == [("succeeded",), ("unchanged",)]
    assert rows(runner, "SELECT container_id FROM assignments ORDER BY node_id") == containers
    assert rows(runner, counted) == [("edge-2", 10), ("edge-3", 10)]


def test_a_roll_out_that_fails_ends_the_scenario(runner: DagRunner, tmp_path: Path) -> None:
    write_model(tmp_path / "models" / "counter", script="#!/bin/sh\nexit 3\n")
    bundle = ScenarioBundle(name="scenarios")
    bundle.initialize()
    tasks = runner.run_file(bundle.path / "counting.py", "scenario_counting")
    assert (tasks["build"], tasks["rollout.finish"]) == ("success", "failed")
    assert (tasks["inference.plan"], states(tasks, "inference.infer")) == ("upstream_failed", ["upstream_failed"])
    assert tasks["finish"] == "failed"
    assert rows(runner, "SELECT status FROM rollouts") == [("rolled_back",)]
    ((key, status, message),) = rows(runner, "SELECT run_id, status, message FROM scenario_runs")
    assert status == "failed"
    assert message == (
        "0 of 2 nodes got through, 0 events; edge-2: rollout: failed, inference: not begun; "
        "edge-3: rollout: aborted, inference: not begun; did not succeed: rollout.finish"
    )

    # mended, the nodes that did not get through it are done once more
    write_model(tmp_path / "models" / "counter", version="1.1")
    bundle.refresh()
    again = key.partition(" ")[2]
    tasks = runner.run_file(bundle.path / "counting.py", "scenario_counting", again=again)
    assert states(tasks, "inference.infer") == ["success"] * 2
    ended = "SELECT nodes, status FROM scenario_runs ORDER BY id"
    assert rows(runner, ended) == [('["edge-2", "edge-3"]', "failed"), ('["edge-2", "edge-3"]', "succeeded")]
    tasks = runner.run_file(bundle.path / "counting.py", "scenario_counting", again="nothing")
    assert (tasks["select"], tasks["finish"]) == ("failed", "failed")
