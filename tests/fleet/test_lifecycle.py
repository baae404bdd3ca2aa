"""The life of a model as a user drives it: `airflow dags trigger --conf` in a running Airflow, on a real fleet."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.edge import EdgeFleet
from tests.servers.edge_node import EdgeNode
from tests.servers.running_airflow import RunningAirflow, fleet_environment, running_airflow

pytestmark = [pytest.mark.fleet, pytest.mark.xdist_group("fleet")]

DAGS = (
    "register_node",
    "remove_node",
    "build_model",
    "delete_image",
    "deploy_model",
    "run_inference",
    "collect_results",
    "sync_registry",
    "reconcile_fleet",
)
MODEL_YAML = """\
name: counter
description: Counts what it is shown; stands for a model in tests.
task: test
version: "1.0"
mode: continuous
inputs: [file]
results:
  - kind: object
    description: one thing seen
health:
  stable_s: 1
  deadline_s: 20
stop_grace_s: 1
"""
# prints a few result lines and then runs on, as a model that looks through a camera does
SCRIPT = """\
#!/bin/sh
trap 'exit 0' TERM
for frame in 0 1 2 3 4; do
    printf '{"kind": "object", "frame": %d, "label": "thing", "score": 0.9, "latency_ms": 2.5}\\n' $frame
done
[ -n "$EVC_RUN" ] || while :; do sleep 1; done
"""
DOCKERFILE = """\
ARG BASE=base/python:3.11
FROM $BASE
COPY model.sh /model.sh
CMD ["/bin/sh", "/model.sh"]
"""


def write_model(folder: Path, *, version: str = "1.0", script: str = SCRIPT) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.yaml").write_text(MODEL_YAML.replace('"1.0"', json.dumps(version)))
    (folder / "model.sh").write_text(script)
    (folder / "Dockerfile").write_text(DOCKERFILE)


@pytest.fixture(scope="module")
def airflow(edge_fleet: EdgeFleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAirflow]:
    edge_fleet.registry.start()
    for node in edge_fleet.nodes.values():
        node.clean()  # what runs there, whoever deployed it, has results too
    folder = tmp_path_factory.mktemp("lifecycle")
    write_model(folder / "models" / "counter")
    environment = fleet_environment(edge_fleet, folder / "models")
    with running_airflow(folder / "state", environment, DAGS) as running:
        yield running


def register(airflow: RunningAirflow, *nodes: EdgeNode) -> None:
    runs = [
        airflow.trigger("register_node", name=node.name, host=node.address, host_key=node.host_key, groups=["edge"])
        for node in nodes
    ]
    for run_id in runs:
        assert airflow.wait("register_node", run_id) == "success", airflow.api.failure("register_node", run_id)


def containers(node: EdgeNode, model: str = "counter") -> list[str]:
    """Return the digests of the model's running containers, as the node's own engine says."""
    with node.engine() as engine:
        found = engine.containers.list(ignore_removed=True, filters={"label": f"evc.model={model}"})
        return [str(container.labels["evc.digest"]) for container in found]


def test_the_whole_way(airflow: RunningAirflow, edge_fleet: EdgeFleet) -> None:
    edges = [edge_fleet.nodes[name] for name in sorted(edge_fleet.nodes)]
    register(airflow, edge_fleet.builder, *edges)
    names = [node.name for node in edges]

    # build and push
    build = airflow.run("build_model", model="counter", builder=edge_fleet.builder.name)
    built = airflow.rows("SELECT * FROM builds WHERE run_id = :run_id", run_id=build)[0]
    assert built["status"] == "succeeded"
    assert built["source_revision"].startswith("sha256:")
    airflow.run("build_model", model="counter", builder=edge_fleet.builder.name)
    assert [row["status"] for row in airflow.rows("SELECT status FROM builds ORDER BY id")] == [
        "succeeded",
        "unchanged",
    ]
    airflow.run("sync_registry")
    listed = airflow.rows("SELECT tag, digest, gone_ts FROM registry_images WHERE repository = 'counter'")
    assert listed == [{"tag": "1.0", "digest": built["digest"], "gone_ts": None}]

    # roll out in two waves
    rollout = airflow.run("deploy_model", model="counter", tag="1.0", nodes=names, waves=[1, "100%"])
    waves = airflow.rows("SELECT wave, status FROM rollout_nodes ORDER BY wave, node_id")
    assert [row["wave"] for row in waves] == [0, 1, 1]
    assert {row["status"] for row in waves} == {"succeeded"}
    assert airflow.rows("SELECT status FROM rollouts WHERE run_id = :id", id=rollout) == [{"status": "succeeded"}]
    assert [containers(node) for node in edges] == [[built["digest"]]] * 3

    # infer, and what the deployed containers print by themselves
    for node in edges:
        node.write_file("/data/frames.txt", b"one two three")
    run = airflow.run("run_inference", model="counter", nodes=names, input="/data/frames.txt", timeout_s=60)
    counted = airflow.rows(
        "SELECT r.node_id, count(*) AS results FROM inference_results s JOIN inference_runs r ON r.id = s.run_id"
        " WHERE r.run_id = :run_id AND s.kind = 'object' GROUP BY 1",
        run_id=run,
    )
    assert [row["results"] for row in counted] == [5, 5, 5]
    airflow.run("collect_results")
    continuous = "SELECT results FROM inference_runs WHERE mode = 'continuous'"
    assert [row["results"] for row in airflow.rows(continuous)] == [5, 5, 5]

    # one query: which digest, built from what, on which node, in which container
    origin = airflow.rows(
        "SELECT DISTINCT s.digest, b.source_revision, n.name, r.container_id FROM inference_results s"
        " JOIN inference_runs r ON r.id = s.run_id JOIN nodes n ON n.id = s.node_id"
        " JOIN builds b ON b.digest = s.digest AND b.status = 'succeeded' WHERE r.run_id = :run_id ORDER BY n.name",
        run_id=run,
    )
    assert [row["name"] for row in origin] == sorted(names)
    assert {(row["digest"], row["source_revision"]) for row in origin} == {(built["digest"], built["source_revision"])}
    assert all(row["container_id"] for row in origin)

    # an image that nodes run is not deleted
    refused = airflow.run("delete_image", repository="counter", tag="1.0", expect="failed")
    said = airflow.log("delete_image", refused, airflow.tasks("delete_image", refused)[0]["task_id"])
    assert all(name in said for name in names)

    # a node that is removed: its account is refused at the very next pull, and nothing of EVC is left on it
    leaving = edges[0]
    login = leaving.run("cat", "/root/.docker/config.json")
    reference = f"{edge_fleet.registry.address(edge_fleet.registry.pull)}/counter:1.0"
    assert "Pulling" in leaving.run("docker", "pull", reference)
    airflow.run("remove_node", name=leaving.name)
    assert containers(leaving) == []
    leaving.write_file("/root/.docker/config.json", login.encode(), 0o600)
    leaving.trust(edge_fleet.registry, log_in=False)
    denied = leaving.run("docker", "pull", reference, check=False)
    assert "unauthorized" in denied or "denied" in denied or "no basic auth" in denied, denied
    status = airflow.rows("SELECT status FROM nodes WHERE name = :name", name=leaving.name)
    assert status == [{"status": "removed"}]


# as long as `docker stop` lets it: the stage in which the previous container is stopped can be met
STUBBORN = "trap '' TERM; while :; do sleep 1; done"


def push(fleet: EdgeFleet, tag: str) -> str:
    return fleet.push_image("counter", tag, script=f"# {tag}\n{STUBBORN}", size_mb=8)


def kill_at(airflow: RunningAirflow, run_id: str, stage: str) -> None:
    """SIGKILL all running tasks as soon as a node of the roll-out is at ``stage``."""
    query = (
        "SELECT rn.status FROM rollout_nodes rn JOIN rollouts r ON r.id = rn.rollout_id"
        " WHERE r.run_id = :run_id AND rn.status = :stage"
    )
    deadline = time.monotonic() + 120
    while not airflow.rows(query, run_id=run_id, stage=stage):
        assert time.monotonic() < deadline, f"never seen at {stage}"
        time.sleep(0.01)
    assert airflow.kill_tasks()


@pytest.mark.parametrize("stage", ["preflight", "pulling", "starting", "gate"])
def test_a_deploy_whose_task_is_killed_ends_the_same(
    airflow: RunningAirflow, edge_fleet: EdgeFleet, stage: str
) -> None:
    node = edge_fleet.nodes["edge-2"]
    node.clean()
    register(airflow, node)
    before, after = push(edge_fleet, f"before-{stage}"), push(edge_fleet, f"after-{stage}")
    airflow.run("deploy_model", model="counter", digest=before, nodes=[node.name], waves=["100%"])
    assert containers(node) == [before]
    node.limit_rate(400_000)  # slow enough to be met in the middle
    try:
        run_id = airflow.trigger("deploy_model", model="counter", digest=after, nodes=[node.name], waves=["100%"])
        kill_at(airflow, run_id, stage)
    finally:
        node.limit_rate(None)
    assert airflow.wait("deploy_model", run_id) == "success", airflow.api.failure("deploy_model", run_id)
    deploys = [task for task in airflow.tasks("deploy_model", run_id) if task["map_index"] == 0]
    assert max(task["try_number"] for task in deploys) == 2
    assert containers(node) == [after]
    with node.engine() as engine:
        assert len(engine.containers.list(ignore_removed=True, all=True, filters={"label": "evc.config"})) == 1
    ended = airflow.rows(
        "SELECT r.status, rn.status AS node_status, rn.previous_digest, rn.bytes_total FROM rollouts r"
        " JOIN rollout_nodes rn ON rn.rollout_id = r.id WHERE r.run_id = :run_id",
        run_id=run_id,
    )
    assert [(row["status"], row["node_status"], row["previous_digest"]) for row in ended] == [
        ("succeeded", "succeeded", before)
    ]


def test_a_canary_that_is_not_healthy_takes_the_roll_out_back(airflow: RunningAirflow, edge_fleet: EdgeFleet) -> None:
    nodes = [edge_fleet.nodes[name] for name in ("edge-2", "edge-3")]
    register(airflow, *nodes)
    good = push(edge_fleet, "good")
    airflow.run("deploy_model", model="counter", tag="good", nodes=[node.name for node in nodes], waves=["100%"])
    edge_fleet.push_image("counter", "bad", script="echo the camera is not there; exit 3")
    names = [node.name for node in nodes]
    run_id = airflow.run("deploy_model", model="counter", tag="bad", nodes=names, waves=[1, "100%"], expect="failed")
    assert [containers(node) for node in nodes] == [[good], [good]]
    rollout = airflow.rows("SELECT id, status FROM rollouts WHERE run_id = :run_id", run_id=run_id)[0]
    assert rollout["status"] == "rolled_back"
    became = airflow.rows(
        "SELECT wave, status, message FROM rollout_nodes WHERE rollout_id = :id ORDER BY wave", id=rollout["id"]
    )
    assert [(row["wave"], row["status"]) for row in became] == [(0, "failed"), (1, "aborted")]
    assert "3" in became[0]["message"]
