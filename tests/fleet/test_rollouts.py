"""deploy_model on a real fleet: waves, gates, roll-back, nodes that do not answer, and what comes in between."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from evc.fleet.waves import WORKING
from evc.hooks import deployment
from evc.hooks.deployment import DeploymentHook, Kind, _Recorder
from evc.hooks.reconcile import ReconcileHook
from evc.hooks.rollouts import RolloutHook
from evc.operators import judge_wave, plan_rollout
from evc.store.database import embedded_url, open_engine, upgrade
from evc.store.nodes import store_node
from evc.store.rollouts import control_rollout
from tests.servers.airflow import DagRunner
from tests.servers.edge import EdgeFleet
from tests.servers.edge_node import EdgeNode

LOG = logging.getLogger("tests.rollouts")
pytestmark = [pytest.mark.fleet, pytest.mark.xdist_group("fleet")]

MODEL_YAML = """\
name: reid
description: Stands for a model in tests
task: reid
version: "1.0"
mode: continuous
inputs: [camera]
results:
  - kind: track
volumes:
  - source: /etc/hostname
    target: /node
stop_grace_s: 0
resources:
  memory_bytes: 33554432
  cpus: 0.1
health:
  stable_s: 0.5
  deadline_s: 20
"""


class Fleet:
    """The fleet as EVC knows it: registered, its registry trusted; and DAG runs in this process."""

    def __init__(self, runner: DagRunner, fleet: EdgeFleet, nodes: list[EdgeNode]) -> None:
        self.runner, self.fleet, self.nodes = runner, fleet, nodes

    def rows(self, query: str) -> list[Any]:
        """Return what the metrics database says."""
        with sqlite3.connect(self.runner.state_folder / "metrics.db", timeout=30) as connection:
            return connection.execute(query).fetchall()

    def deploy(self, **conf: Any) -> dict[str, str]:
        """Run deploy_model to its end; returns the states of its tasks."""
        return self.runner.run("deploy_model", **{"model": "reid", **conf})

    def statuses(self) -> list[str]:
        """Return what became of each node in the last roll-out, by name."""
        found = self.rows(
            "SELECT rollout_nodes.status FROM rollout_nodes JOIN nodes ON nodes.id = node_id"
            " WHERE rollout_id = (SELECT max(id) FROM rollouts) ORDER BY name"
        )
        return [status for (status,) in found]

    def last(self) -> tuple[str, str]:
        """Return status and message of the last roll-out."""
        ((status, message),) = self.rows("SELECT status, message FROM rollouts ORDER BY id DESC LIMIT 1")
        return status, message

    def desired(self) -> list[tuple[str, str, str]]:
        """Return node, digest and status of each assignment."""
        return self.rows(
            "SELECT name, digest, assignments.status FROM assignments JOIN nodes ON nodes.id = node_id ORDER BY name"
        )

    def engine(self) -> Engine:
        """Return an engine on the metrics database."""
        return open_engine(embedded_url(self.runner.state_folder))

    def control(self, action: str) -> None:
        """Do what `evc rollouts` and control_rollout do."""
        with self.engine().begin() as connection:
            control_rollout(connection, None, "reid", action, int(time.time()))

    def begin(self, run_id: str = "other", **given: Any) -> list[str]:
        """Plan a roll-out as its DAG run would; returns the nodes of its first wave."""
        params = {
            "model": "reid", "tag": "1.0", "digest": None, "nodes": [], "groups": [], "waves": ["100%"],
            "success_threshold": 90, "error_threshold": 10, "deadline": "1h", "approval": False, "if_busy": "refuse",
        }  # fmt: skip
        planned = RolloutHook(LOG).plan(run_id, {**params, **given}, lambda run_id: False)
        assert isinstance(planned, list)
        return planned

    def install(self, tag: str, **given: Any) -> None:
        """Roll out as a DAG run would, in a fraction of the time."""
        for name in self.begin(f"install-{tag}", tag=tag, **given):
            DeploymentHook(LOG).deploy(f"install-{tag}", name, is_last_try=True)
        RolloutHook(LOG).finish(f"install-{tag}")

    def reconcile(self, *groups: str, repair: bool | None = None) -> dict[str, int]:
        """Do what a run of reconcile_fleet does."""
        return ReconcileHook(LOG, repair).reconcile([], groups, lambda run_id: False)

    def push(self, tag: str, **more: Any) -> str:
        """Push an image of the model; returns its digest."""
        return self.fleet.push_image("reid", tag, **{"healthcheck": "true", **more})


def running(node: EdgeNode) -> list[str]:
    """Return the digests of the model's containers that run on a node, as its own engine says."""
    with node.engine() as engine:
        found = engine.containers.list(ignore_removed=True, filters={"label": "evc.config"})
        return [str(container.labels["evc.digest"]) for container in found]


def states(tasks: dict[str, str], task: str) -> list[str]:
    """Return the states of a task's instances."""
    return [state for name, state in sorted(tasks.items()) if name.partition("[")[0] == task]


@pytest.fixture
def evc(dag_runner: DagRunner, edge_fleet: EdgeFleet, edge_nodes: list[EdgeNode], tmp_path: Path) -> Fleet:
    registry = edge_fleet.registry
    dag_runner.connect(edge_fleet)
    dag_runner.setting("models_folder", str(tmp_path / "models"))
    dag_runner.setting("connect_timeout_s", "2")
    folder = tmp_path / "models" / "reid"
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(MODEL_YAML)
    (folder / "Dockerfile").write_text("FROM scratch\n")
    dag_runner.state_folder.mkdir()
    engine = open_engine(embedded_url(dag_runner.state_folder))
    upgrade(engine)
    with engine.begin() as connection:
        for node in edge_nodes:
            node.trust(registry)
            store_node(connection, node.node(groups=("edge",)), 1_700_000_000)
    engine.dispose()
    return Fleet(dag_runner, edge_fleet, edge_nodes)


# -- waves -----------------------------------------------------------------------------------------------------------


def test_two_waves_over_three_nodes(evc: Fleet) -> None:
    digest = evc.push("1.0", size_mb=2)
    tasks = evc.deploy(tag="1.0", groups=["edge"], waves=[1, "100%"])
    assert states(tasks, "wave_1.deploy") == ["success"]
    assert states(tasks, "wave_2.deploy") == ["success"] * 2
    assert [tasks[f"wave_{n}.gate"] for n in (1, 2, 3, 4, 5)] == ["success", "success", "skipped", "skipped", "skipped"]
    assert (tasks["finish"], tasks["rollback.restore"]) == ("skipped", "skipped")
    assert [running(node) for node in evc.nodes] == [[digest]] * 3
    assert evc.statuses() == ["succeeded"] * 3
    assert evc.last()[0] == "succeeded"
    assert evc.desired() == [(node.name, digest, "running") for node in evc.nodes]
    assert evc.rows("SELECT DISTINCT wave, bytes_done > 2000000, bytes_done = bytes_total FROM rollout_nodes") == [
        (0, 1, 1),
        (1, 1, 1),
    ]

    # the same again changes nothing: the containers are the same ones
    before = evc.rows("SELECT container_id FROM assignments ORDER BY node_id")
    assert evc.deploy(digest=digest)["finish"] == "skipped"
    assert evc.rows("SELECT container_id FROM assignments ORDER BY node_id") == before


# -- roll-back -------------------------------------------------------------------------------------------------------


def test_an_unhealthy_canary_goes_back_and_stops_the_rest(evc: Fleet) -> None:
    good = evc.push("1.0")
    evc.install("1.0")
    bad = evc.push("2.0", healthcheck="false")
    tasks = evc.deploy(tag="2.0", waves=[1, "100%"])
    assert states(tasks, "wave_1.deploy") == ["failed"]
    assert (tasks["wave_1.gate"], tasks["wave_2.gate"], tasks["finish"]) == ("failed", "upstream_failed", "failed")
    assert [running(node) for node in evc.nodes] == [[good]] * 3
    assert evc.statuses() == ["failed", "aborted", "aborted"]
    status, message = evc.last()
    assert status == "rolled_back"
    assert message == "wave 1: 0 of 1 succeeded, 1 failed: more than the error threshold of 10 %"
    ((said,),) = evc.rows("SELECT message FROM rollout_nodes WHERE status = 'failed'")
    assert "unhealthy" in said
    assert evc.desired() == [(node.name, good, "running") for node in evc.nodes]
    assert bad not in str(evc.desired())


def test_nodes_that_succeeded_go_back_to_what_they_had(evc: Fleet) -> None:
    good = evc.push("1.0")
    # edge-1 has none before
    evc.install("1.0", nodes=["edge-2", "edge-3"])
    evc.push("2.0", healthcheck="! grep -q edge-3 /node")
    tasks = evc.deploy(tag="2.0", waves=[1, 2, "100%"])
    assert [states(tasks, f"wave_{n}.deploy") for n in (1, 2, 3)] == [["success"], ["success"], ["failed"]]
    assert states(tasks, "rollback.restore") == ["success"] * 3
    assert tasks["finish"] == "failed"
    assert [running(node) for node in evc.nodes] == [[], [good], [good]]
    assert evc.statuses() == ["rolled_back", "rolled_back", "failed"]
    assert evc.last()[0] == "rolled_back"
    assert evc.desired() == [("edge-2", good, "running"), ("edge-3", good, "running")]


def test_a_node_that_is_cut_off_meanwhile_goes_back_when_it_answers(evc: Fleet) -> None:
    good = evc.push("1.0")
    evc.install("1.0", nodes=["edge-2"])
    evc.push("2.0", healthcheck="! grep -q edge-3 /node")

    def cut_off() -> bool:
        if evc.statuses().count("failed") == 0:
            return False
        for node in evc.nodes[:2]:
            node.cut(fast=True)
        return True

    with meanwhile(cut_off):
        tasks = evc.deploy(tag="2.0", waves=[2, "100%"])
    assert sorted(states(tasks, "rollback.restore")) == ["skipped", "skipped", "success"]
    assert evc.statuses() == ["pending", "pending", "failed"]
    for node in evc.nodes[:2]:
        node.restore()
    assert evc.reconcile() == {"brought": 2}
    assert [running(node) for node in evc.nodes] == [[], [good], []]
    assert evc.statuses() == ["rolled_back", "rolled_back", "failed"]
    assert evc.desired() == [("edge-2", good, "running")]


# -- nodes that do not answer ----------------------------------------------------------------------------------------


def test_a_node_that_does_not_answer_is_pending_and_brought_when_it_is_back(evc: Fleet) -> None:
    digest = evc.push("1.0")
    evc.nodes[2].cut()
    tasks = evc.deploy(tag="1.0", waves=["100%"], success_threshold=60)
    assert sorted(states(tasks, "wave_1.deploy")) == ["skipped", "success", "success"]
    assert (tasks["wave_1.gate"], tasks["finish"]) == ("success", "skipped")
    assert evc.statuses() == ["succeeded", "succeeded", "pending"]
    assert evc.desired()[2] == ("edge-3", digest, "pending")
    assert evc.reconcile() == {}
    assert evc.statuses()[2] == "pending"
    evc.nodes[2].restore()
    assert evc.runner.run("reconcile_fleet")["reconcile"] == "success"
    assert evc.statuses() == ["succeeded"] * 3
    assert running(evc.nodes[2]) == [digest]
    assert evc.desired()[2] == ("edge-3", digest, "running")


def test_after_the_deadline_a_node_keeps_what_it_has(evc: Fleet) -> None:
    good = evc.push("1.0")
    evc.install("1.0")
    evc.push("2.0")
    evc.nodes[0].cut(fast=True)
    tasks = evc.deploy(tag="2.0", nodes=["edge-1"], waves=["100%"], deadline="1s")
    assert (tasks["wave_1.gate"], tasks["finish"]) == ("failed", "failed")
    assert evc.statuses() == ["expired"]
    assert evc.last()[0] == "failed"
    assert "1 did not answer until the deadline" in evc.last()[1]
    evc.nodes[0].restore()
    assert evc.reconcile("edge") == {"running": 3}
    assert running(evc.nodes[0]) == [good]
    assert evc.desired()[0] == ("edge-1", good, "running")


def test_a_gate_waits_for_a_canary_that_does_not_answer(evc: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_wave, "WAIT_S", 1)
    digest = evc.push("1.0")
    evc.nodes[0].cut(fast=True)

    def bring_back() -> bool:
        if evc.statuses() != ["pending", "waiting"]:
            return False
        time.sleep(2)
        assert evc.statuses() == ["pending", "waiting"]
        evc.nodes[0].restore()
        assert evc.reconcile() == {"brought": 1}
        return True

    with meanwhile(bring_back):
        tasks = evc.deploy(tag="1.0", nodes=["edge-1", "edge-2"], waves=[1, "100%"])
    assert tasks["finish"] == "skipped"
    assert [running(node) for node in evc.nodes[:2]] == [[digest]] * 2


# -- one at a time; pause and abort ----------------------------------------------------------------------------------


class meanwhile:  # noqa: N801  reads as what it is: a context manager
    """Calls ``act`` again and again, in a thread, until it returns True; fails where that never came."""

    def __init__(self, act: Callable[[], bool]) -> None:
        self._act, self._over, self.done = act, threading.Event(), False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            while not self._over.is_set() and not self.done:
                with suppress(sqlite3.OperationalError):  # locked for a moment
                    self.done = self._act()
                time.sleep(0.02)
        except BaseException as error:  # noqa: BLE001  told in the test's own thread
            self._error = error

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()
        if self._error:
            raise self._error
        assert self.done or exception[0]


def test_a_second_roll_out_is_refused_or_waits(evc: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = evc.push("1.0")
    evc.begin()
    monkeypatch.setattr(plan_rollout, "is_over", lambda run_id: False)
    tasks = evc.deploy(tag="1.0")
    assert (tasks["plan"], tasks["finish"]) == ("failed", "failed")
    assert evc.rows("SELECT count(*) FROM rollouts") == [(1,)]
    assert [running(node) for node in evc.nodes] == [[]] * 3

    monkeypatch.setattr(plan_rollout, "WAIT_S", 1)
    begun = time.monotonic()

    def end_the_other() -> bool:
        if time.monotonic() - begun < 4:
            return False
        evc.control("abort")
        return True

    with meanwhile(end_the_other):
        tasks = evc.deploy(tag="1.0", if_busy="wait", nodes=["edge-1"])
    assert tasks["finish"] == "skipped"
    assert running(evc.nodes[0]) == [digest]
    assert evc.rows("SELECT status FROM rollouts ORDER BY id") == [("aborted",), ("succeeded",)]


def test_a_roll_out_whose_run_is_gone_blocks_nobody(evc: Fleet) -> None:
    evc.push("1.0")
    evc.begin()
    assert evc.deploy(tag="1.0", nodes=["edge-1"])["finish"] == "skipped"
    assert evc.rows("SELECT status FROM rollouts ORDER BY id") == [("aborted",), ("succeeded",)]
    evc.begin("gone")
    assert ReconcileHook(LOG).reconcile([], [], lambda run_id: True) == {"closed": 1}
    assert evc.last() == ("aborted", "its DAG run ended without closing it")


def test_an_abort_keeps_what_is_done_and_starts_nothing_more(evc: Fleet) -> None:
    digest = evc.push("1.0")

    def abort() -> bool:
        if "succeeded" not in evc.statuses():
            return False
        evc.control("abort")
        return True

    with meanwhile(abort):
        tasks = evc.deploy(tag="1.0", waves=[1, "100%"])
    assert (tasks["wave_1.gate"], tasks["finish"]) == ("failed", "failed")
    assert evc.statuses() == ["succeeded", "aborted", "aborted"]
    assert [running(node) for node in evc.nodes] == [[digest], [], []]
    assert evc.last() == ("aborted", "aborted by request")
    assert evc.desired() == [("edge-1", digest, "running")]


def test_a_pause_starts_nothing_until_it_is_over(evc: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_wave, "WAIT_S", 1)
    digest = evc.push("1.0")

    def pause() -> bool:
        if "succeeded" not in evc.statuses():
            return False
        evc.control("pause")
        time.sleep(4)
        assert evc.statuses() == ["succeeded", "waiting", "waiting"]
        assert [running(node) for node in evc.nodes] == [[digest], [], []]
        evc.control("resume")
        return True

    with meanwhile(pause):
        tasks = evc.deploy(tag="1.0", waves=[1, "100%"])
    assert tasks["finish"] == "skipped"
    assert [running(node) for node in evc.nodes] == [[digest]] * 3


# -- drift -----------------------------------------------------------------------------------------------------------


def test_what_someone_changed_by_hand_is_shown_once_and_put_right_on_demand(evc: Fleet) -> None:
    digest = evc.push("1.0")
    evc.install("1.0")
    with evc.nodes[0].engine() as engine:
        engine.containers.list(ignore_removed=True, filters={"label": "evc.config"})[0].remove(force=True)
    with evc.nodes[1].engine() as engine:
        engine.containers.list(ignore_removed=True, filters={"label": "evc.config"})[0].stop(timeout=0)
    for _ in range(2):
        assert evc.reconcile("edge") == {"drifted": 2, "running": 1}
    assert [status for _, _, status in evc.desired()] == ["drifted", "drifted", "running"]
    events = evc.rows("SELECT name, message FROM node_events JOIN nodes ON nodes.id = node_id WHERE kind = 'drift'")
    wanted = f"reid: {digest[:19]} is wanted, "
    assert sorted(events) == [("edge-1", f"{wanted}no container is there"), ("edge-2", f"{wanted}it is exited")]
    assert [running(node) for node in evc.nodes] == [[], [], [digest]]

    assert evc.reconcile("edge", repair=True) == {"brought": 2, "running": 1}
    assert [running(node) for node in evc.nodes] == [[digest]] * 3
    assert [status for _, _, status in evc.desired()] == ["running"] * 3
    assert evc.rows("SELECT count(*) FROM node_events WHERE kind = 'drift_repaired'") == [(2,)]
    assert evc.rows("SELECT count(*) FROM node_events WHERE kind = 'drift'") == [(2,)]


# -- a task that is killed -------------------------------------------------------------------------------------------


class _StopsAt(_Recorder):
    """Stops its own process as soon as the node is at ``stage``: SIGKILL then always meets it there."""

    stage = ""

    def status(self, status: str) -> None:
        super().status(status)
        if status == self.stage:
            os.kill(os.getpid(), signal.SIGSTOP)


def _deploy(run_id: str, name: str, stage: str) -> None:
    _StopsAt.stage = stage
    deployment._Recorder = _StopsAt  # type: ignore[misc]  # in a process of its own
    DeploymentHook(LOG).deploy(run_id, name, is_last_try=False)


@pytest.mark.parametrize("stage", ["preflight", "pulling", "starting", "gate"])
def test_a_task_killed_at_any_stage_ends_the_same_after_a_retry(evc: Fleet, stage: str) -> None:
    assert stage in WORKING
    evc.push("1.0")
    evc.install("1.0", nodes=["edge-1"])
    digest = evc.push("2.0", size_mb=8)
    evc.nodes[0].limit_rate(4_000_000)
    assert evc.begin(tag="2.0", nodes=["edge-1"]) == ["edge-1"]
    process = multiprocessing.get_context("fork").Process(target=_deploy, args=("other", "edge-1", stage))
    process.start()
    assert process.pid
    assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
    process.kill()
    process.join()
    assert evc.statuses() == [stage]

    turn = DeploymentHook(LOG).deploy("other", "edge-1", is_last_try=True)
    assert turn.kind is Kind.DONE
    assert running(evc.nodes[0]) == [digest]
    with evc.nodes[0].engine() as engine:
        assert len(engine.containers.list(ignore_removed=True, all=True)) == 1
    assert RolloutHook(LOG).finish("other").endswith("succeeded: 1 succeeded")
    assert evc.desired() == [("edge-1", digest, "running")]


def test_a_task_that_runs_after_the_end_changes_nothing(evc: Fleet) -> None:
    evc.push("1.0")
    evc.begin(nodes=["edge-1"])
    evc.control("abort")
    turn = DeploymentHook(LOG).deploy("other", "edge-1", is_last_try=False)
    assert turn.kind is Kind.SKIP
    assert turn.message.endswith("has ended: aborted by request; trigger deploy_model anew")
    assert running(evc.nodes[0]) == []
