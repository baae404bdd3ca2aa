"""What only a running Airflow shows of a roll-out: its pool, approvals, and a run that someone marks as failed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from evc.store.nodes import store_node
from evc.store.rollouts import PAUSE, set_command
from tests.fleet.test_rollouts import MODEL_YAML, running
from tests.servers.edge import EdgeFleet
from tests.servers.edge_node import EdgeNode
from tests.servers.running_airflow import ENDED, RunningAirflow, fleet_environment, running_airflow

pytestmark = [pytest.mark.fleet, pytest.mark.xdist_group("fleet")]


@pytest.fixture
def airflow(edge_fleet: EdgeFleet, edge_nodes: list[EdgeNode], tmp_path: Path) -> Iterator[RunningAirflow]:
    folder = tmp_path / "models" / "reid"
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(MODEL_YAML)
    (folder / "Dockerfile").write_text("FROM scratch\n")
    environment = {**fleet_environment(edge_fleet, folder.parent), "AIRFLOW__EVC__PULL_SLOTS": "3"}
    with running_airflow(tmp_path / "state", environment, ("deploy_model", "reconcile_fleet")) as started:
        with started.engine.begin() as transaction:
            for node in edge_nodes:
                node.trust(edge_fleet.registry)
                store_node(transaction, node.node(groups=("edge",)), 1_700_000_000)
        yield started


def gate(airflow: RunningAirflow, run_id: str) -> str:
    """Return the path of the first gate's request."""
    return f"/api/v2/dags/deploy_model/dagRuns/{quote(run_id)}/taskInstances/wave_1.gate/-1/hitlDetails"


def is_asked(airflow: RunningAirflow, run_id: str) -> bool:
    states = {task["task_id"]: task["state"] for task in airflow.tasks("deploy_model", run_id)}
    return states.get("wave_1.gate") == "awaiting_input"


def answer(airflow: RunningAirflow, run_id: str, option: str) -> str:
    """Answer at a person's pace whenever the gate asks, until the run has ended; returns its state.

    Airflow's scheduler fails a task that is answered before it has seen the end of the process that asked: within about
    a second. The gate's retry asks once more then.
    """

    def has_ended() -> bool:
        if is_asked(airflow, run_id):
            time.sleep(3)
            airflow.api._send("PATCH", gate(airflow, run_id), {"chosen_options": [option], "params_input": {}})
        return airflow.api.run_state("deploy_model", run_id) in ENDED

    airflow.until(has_ended, 300, f"deploy_model {run_id}")
    return airflow.api.run_state("deploy_model", run_id)


def approve_while_it_pauses(airflow: RunningAirflow, run_id: str) -> None:
    """Pause the first roll-out, approve its wave, resume it, and wait for the end of its run: it asks no more."""

    def command(given: str | None) -> None:
        with airflow.engine.begin() as connection:
            assert set_command(connection, 1, given)

    def state() -> str:
        return next(str(it["state"]) for it in airflow.tasks("deploy_model", run_id) if it["task_id"] == "wave_1.gate")

    def has_ended() -> bool:
        assert state() != "awaiting_input"
        return airflow.api.run_state("deploy_model", run_id) in ENDED

    command(PAUSE)
    time.sleep(3)  # see answer
    airflow.api._send("PATCH", gate(airflow, run_id), {"chosen_options": ["Approve"], "params_input": {}})
    airflow.until(lambda: state() == "up_for_reschedule", 60, "the pause")
    command(None)
    airflow.until(has_ended, 300, f"deploy_model {run_id}")


def test_approval_pool_and_a_run_that_is_marked_as_failed(
    airflow: RunningAirflow, edge_fleet: EdgeFleet, edge_nodes: list[EdgeNode]
) -> None:
    pool = airflow.api.get("/api/v2/pools/evc_pulls")
    assert (pool["slots"], pool["include_deferred"]) == (3, False)

    digest = edge_fleet.push_image("reid", "1.0", healthcheck="true")
    run_id = airflow.trigger("deploy_model", model="reid", tag="1.0", waves=[1, "100%"], approval=True)
    airflow.until(lambda: is_asked(airflow, run_id), 180, "the question")
    asked = airflow.api.get(gate(airflow, run_id))
    assert asked["subject"] == "Roll-out 1 of reid:1.0: go on with wave 2 of 2, 2 nodes?"
    assert asked["body"].splitlines()[:3] == [
        f"- image: `reid@{digest}`",
        "- wave 1 of 2 is done: 1 succeeded, 0 failed",
        "- wave 2 of 2 is next: 2 nodes: edge-2, edge-3",
    ]
    assert [running(node) for node in edge_nodes] == [[digest], [], []]
    approve_while_it_pauses(airflow, run_id)
    assert airflow.api.run_state("deploy_model", run_id) == "success", airflow.api.failure("deploy_model", run_id)
    assert [running(node) for node in edge_nodes] == [[digest]] * 3
    tasks = {(task["task_id"], task["map_index"]): task for task in airflow.tasks("deploy_model", run_id)}
    names = [tasks["wave_2.deploy", index]["rendered_map_index"] for index in (0, 1)]
    assert names == ["edge-2", "edge-3"]
    assert tasks["wave_1.deploy", 0]["pool"] == "evc_pulls"
    assert {task["state"] for (name, _), task in tasks.items() if name in ("wave_3.gate", "wave_5.deploy")} == {
        "skipped"
    }

    second = edge_fleet.push_image("reid", "2.0", healthcheck="true")
    run_id = airflow.trigger("deploy_model", model="reid", tag="2.0", waves=[1, "100%"], approval=True)
    airflow.until(lambda: is_asked(airflow, run_id), 180, "the question")
    assert answer(airflow, run_id, "Reject") == "failed"
    ((status, message),) = (
        (row["status"], row["message"])
        for row in airflow.rows("SELECT status, message FROM rollouts WHERE run_id = :run_id", run_id=run_id)
    )
    assert (status, message.startswith("wave 2 was not approved by ")) == ("aborted", True)
    assert [running(node) for node in edge_nodes] == [[second], [digest], [digest]]

    # nobody closes it: reconcile_fleet does
    run_id = airflow.trigger("deploy_model", model="reid", tag="2.0", waves=[1, "100%"], approval=True)
    airflow.until(lambda: is_asked(airflow, run_id), 180, "the question")
    airflow.api._send("PATCH", f"/api/v2/dags/deploy_model/dagRuns/{quote(run_id)}", {"state": "failed"})
    query = "SELECT status FROM rollouts WHERE run_id = :run_id"
    airflow.until(lambda: airflow.rows(query, run_id=run_id) == [{"status": "aborted"}], 180, "its end")
