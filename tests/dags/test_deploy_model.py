"""How deploy_model is wired, and what it refuses before a run begins or in its plan."""

from __future__ import annotations

import asyncio
import copy
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG
from airflow.sdk.exceptions import ParamValidationError
from sqlalchemy import text

from evc.errors import ImageNotFound, InputError, RolloutFailed
from evc.fleet.nodes import Node
from evc.fleet.waves import MAX_WAVES
from evc.hooks import registry as registry_hook
from evc.hooks.deployment import DeploymentHook, Kind
from evc.hooks.rollouts import Busy, RolloutHook
from evc.operators.params import rollout_params
from evc.registry.client import RegistryClient
from evc.store.database import embedded_url, open_engine, upgrade
from evc.store.nodes import remove_node, store_node
from evc.store.rollout_nodes import begin_node, end_node
from tests.servers.airflow import DAGS, DagRunner
from tests.store.batches import add_nodes

MODEL_YAML = """\
name: reid
description: Stands for a model in tests
task: reid
version: "1.0"
inputs: [camera]
results:
  - kind: track
"""
ACCOUNT = {"login": "evc", "password": "-"}
DIGEST = f"sha256:{'a' * 64}"
OTHER = f"sha256:{'b' * 64}"


@pytest.fixture(scope="module")
def dag() -> DAG:
    bag = DagBag(DAGS / "deploy_model.py")
    assert not bag.import_errors
    found = bag.dags["deploy_model"]
    assert isinstance(found, DAG)
    return found


def test_each_node_is_one_task_of_the_pool(dag: DAG) -> None:
    mapped = [task for task in dag.tasks if task.is_mapped]
    assert [task.task_id for task in mapped] == [
        *(f"wave_{number}.deploy" for number in range(1, MAX_WAVES + 1)),
        "rollback.restore",
    ]
    for task in mapped:
        assert (task.pool, task.retries) == ("evc_pulls", 2)
        assert task.map_index_template == "{{ task.node }}"


def test_a_red_node_does_not_fail_the_gate_and_a_red_gate_ends_the_waves(dag: DAG) -> None:
    for number in range(1, MAX_WAVES + 1):
        before = f"wave_{number - 1}.gate" if number > 1 else "plan"
        gate, done = dag.get_task(f"wave_{number}.gate"), dag.get_task(f"wave_{number}.done")
        assert (done.trigger_rule, done.upstream_task_ids) == ("all_done", {f"wave_{number}.deploy"})
        assert (gate.trigger_rule, gate.upstream_task_ids) == ("all_success", {before, f"wave_{number}.done"})
        assert dag.get_task(f"wave_{number}.deploy").upstream_task_ids == {before}
        assert gate.retries == 3
    gates = {f"wave_{number}.gate" for number in range(1, MAX_WAVES + 1)}
    rollback, finish = dag.get_task("rollback.plan_rollback"), dag.get_task("finish")
    assert (rollback.trigger_rule, rollback.upstream_task_ids) == ("one_failed", gates)
    assert (finish.trigger_rule, finish.upstream_task_ids) == ("all_done", gates | {"rollback.restore"})
    assert [task.task_id for task in dag.tasks if not task.downstream_task_ids] == ["finish"]


# -- what makes no sense ---------------------------------------------------------------------------------------------


class _Registry(RegistryClient):
    """A registry that holds one image."""

    def __init__(self, *_: object) -> None:
        super().__init__("registry.test:5000", "evc", "secret", transport=None)

    def resolve(self, repository: str, reference: str) -> str:
        """Return the digest of the one tag."""
        if (repository, reference) not in {("reid", "1.0"), ("reid", DIGEST)}:
            raise ImageNotFound(f"registry registry.test:5000: {repository}:{reference}: there is none")
        return DIGEST

    def tags(self, repository: str) -> list[str]:
        """Return the one."""
        return ["1.0"]

    def layers(self, repository: str, digest: str) -> dict[str, Any]:
        """Return none."""
        return {}


@pytest.fixture
def runner(dag_runner: DagRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DagRunner:
    """Three nodes that nobody reaches, one model, one image."""
    monkeypatch.setattr("evc.registry.connection.RegistryClient", _Registry)
    dag_runner.connection("evc_registry", conn_type="docker", host="registry.test", port=5000, **ACCOUNT)
    dag_runner.setting("models_folder", str(tmp_path / "models"))
    (tmp_path / "models" / "reid").mkdir(parents=True)
    (tmp_path / "models" / "reid" / "model.yaml").write_text(MODEL_YAML)
    (tmp_path / "models" / "reid" / "Dockerfile").write_text("FROM scratch\n")
    dag_runner.state_folder.mkdir()
    return dag_runner


def validated(dag: DAG, conf: dict[str, Any]) -> dict[str, Any]:
    """Return the params of a run with that conf, as Airflow makes and checks them."""
    params = copy.deepcopy(dag.params)
    params.update(conf)
    return dict(params.validate())


def nodes(runner: DagRunner, count: int) -> None:
    engine = open_engine(embedded_url(runner.state_folder))
    upgrade(engine)
    if count:
        with engine.begin() as connection:
            add_nodes(connection, count)
    engine.dispose()


@pytest.mark.parametrize(
    "conf",
    [
        *({"model": model} for model in ("", "../etc", "a/b", "Reid", "a b", 7, None)),
        *({"tag": tag} for tag in ("", "a b", "-x", "x" * 129, 1.0)),
        *({"digest": digest} for digest in ("", "sha256:12", "md5:" + "a" * 32, DIGEST.upper())),
        *({"waves": waves} for waves in ([], "100%", [0], [-1], ["0.001%"], ["101%"], ["25"], [1.5], [True], [1] * 6)),
        *({"success_threshold": percent} for percent in (0, -1, 101, "90", None)),
        *({"error_threshold": percent} for percent in (-1, 101, "10", None)),
        *({"deadline": deadline} for deadline in ("soon", "1w", "-1h", "2026-12-01T00:00:00", 60)),
        *({"if_busy": busy} for busy in ("maybe", None)),
        {"approval": "yes"},
        {"nodes": "edge-1"},
        {"groups": ["a b"]},
    ],
    ids=repr,
)
def test_a_value_that_does_not_fit_is_refused_before_a_run_starts(dag: DAG, conf: dict[str, Any]) -> None:
    with pytest.raises(ParamValidationError):
        validated(dag, {"model": "reid", "tag": "1.0", **conf})


@pytest.mark.parametrize(
    "conf",
    [
        {},
        {"tag": None, "digest": DIGEST},
        {"waves": [1, 5, "33.3%", "100%"], "success_threshold": 99.5, "error_threshold": 0},
        {"deadline": None, "approval": True, "if_busy": "wait", "nodes": ["edge-1"], "groups": None},
        {"deadline": "2026-12-01T00:00:00+09:00"},
    ],
)
def test_what_makes_sense_may_begin(dag: DAG, conf: dict[str, Any]) -> None:
    validated(dag, {"model": "reid", "tag": "1.0", **conf})


@pytest.mark.parametrize(
    ("count", "conf", "said"),
    [
        (3, {"model": "farm"}, 'model: "farm" is unknown; allowed: one of reid'),
        (3, {"tag": "9.9"}, "registry registry.test:5000: reid:9.9: there is none; reid has: 1.0"),
        (3, {"tag": None}, "tag: neither tag nor digest was given; allowed: one of both"),
        (3, {"digest": OTHER}, f'digest: {OTHER} is not what tag "1.0" leads to: {DIGEST}; allowed: one of both'),
        (3, {"nodes": ["n9"]}, 'nodes: ["n9"] not registered; allowed: names of registered nodes'),
        (3, {"groups": ["barn"]}, 'groups: ["barn"] without a node; allowed: groups of registered nodes'),
        (0, {}, "nodes: no node is registered; allowed: nodes that register_node or import_inventory made"),
        (1025, {}, "nodes: 1025 were chosen; allowed: at most 1024 in a roll-out: use groups"),
        (3, {"waves": ["50%", "25%", "100%"]}, 'waves[1]: "25%" is not more than the one before it; allowed: '),
        (3, {"waves": [1, "50%"]}, 'waves[1]: "50%" leaves nodes out; allowed: end with "100%"'),
        (3, {"waves": [1, 2]}, 'waves: the last one ends after 2 of 3 nodes; allowed: end with "100%"'),
        (3, {"deadline": "2020-01-01T00:00:00Z"}, 'deadline: "2020-01-01T00:00:00Z" is over; allowed: '),
    ],
)
def test_what_makes_no_sense_is_refused_by_the_plan_with_one_line(
    runner: DagRunner, dag: DAG, count: int, conf: dict[str, Any], said: str
) -> None:
    nodes(runner, count)
    params = validated(dag, {"model": "reid", "tag": "1.0", **conf})
    with pytest.raises((InputError, ImageNotFound)) as caught:
        RolloutHook(logging.getLogger("tests")).plan("run", params, lambda run_id: False)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_a_plan_that_is_refused_fails_the_run_and_touches_no_node(
    runner: DagRunner, caplog: pytest.LogCaptureFixture
) -> None:
    nodes(runner, 3)
    with caplog.at_level("ERROR", "evc.operators.refusal"):
        tasks = runner.run("deploy_model", model="farm", tag="1.0")
    assert (tasks["plan"], tasks["wave_1.deploy"], tasks["finish"]) == ("failed", "upstream_failed", "failed")
    lines = [record.getMessage() for record in caplog.records if record.name == "evc.operators.refusal"]
    assert lines == [
        'model: "farm" is unknown; allowed: one of reid',
        "nothing was rolled out: the log of plan says why, or of what failed before it",
    ]


def test_a_mistyped_key_is_refused_instead_of_meaning_all_nodes(
    runner: DagRunner, caplog: pytest.LogCaptureFixture
) -> None:
    nodes(runner, 3)
    with caplog.at_level("ERROR", "evc.operators.refusal"):
        tasks = runner.run("deploy_model", model="reid", tag="1.0", group=["farm"])
    assert tasks["plan"] == "failed"
    said = next(record.getMessage() for record in caplog.records if record.name == "evc.operators.refusal")
    assert said.startswith('conf: "group" is no param of deploy_model, is groups meant?; allowed: model, tag, digest, ')


def test_the_form_asks_for_waves_as_json() -> None:
    assert rollout_params()["waves"].schema["items"]["type"] != "string"  # a form of texts can't say a count


def test_a_retried_plan_finds_what_the_first_try_stored(runner: DagRunner, dag: DAG) -> None:
    nodes(runner, 3)
    hook = RolloutHook(logging.getLogger("tests"))
    params = validated(dag, {"model": "reid", "tag": "1.0", "waves": [2, "100%"]})
    assert hook.plan("run", params, lambda run_id: False) == ["n1", "n2"]
    assert hook.plan("run", {**params, "waves": [1, "100%"]}, lambda run_id: False) == ["n1", "n2"]
    busy = hook.plan("other", params, lambda run_id: False)
    assert isinstance(busy, Busy)
    assert busy.message == (
        '"reid" is being rolled out: roll-out 1 of reid:1.0, run run; wait for its end (if_busy: wait), or end it: '
        "evc rollouts abort 1, or control_rollout with action abort"
    )
    assert hook.plan("other", params, lambda run_id: run_id == "run") == ["n1", "n2"]  # its run is gone
    hook.control(None, "reid", "abort")
    with pytest.raises(InputError, match="run: roll-out 2 of this run has ended; allowed: a new run of deploy_model"):
        hook.plan("other", params, lambda run_id: False)


def test_a_canary_is_a_node_that_answers(runner: DagRunner, dag: DAG) -> None:
    nodes(runner, 3)
    engine = open_engine(embedded_url(runner.state_folder))
    with engine.begin() as connection:
        connection.execute(text("UPDATE nodes SET status = 'down' WHERE name = 'n1'"))
    params = validated(dag, {"model": "reid", "tag": "1.0", "waves": [1, "100%"]})
    assert RolloutHook(logging.getLogger("tests")).plan("run", params, lambda run_id: False) == ["n2"]


@pytest.mark.parametrize(
    "conf",
    [{"action": "explode"}, {"rollout": 0}, {"rollout": 2**63}, {"rollout": "7"}, {"model": "../x"}, {"action": None}],
    ids=repr,
)
def test_control_rollout_refuses_what_does_not_fit(conf: dict[str, Any]) -> None:
    with pytest.raises(ParamValidationError):
        validated(DagBag(DAGS / "control_rollout.py").dags["control_rollout"], {"action": "pause", **conf})


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({}, "rollout: not exactly one of rollout and model was given; allowed: "),
        ({"rollout": 7}, "rollout: there is no roll-out 7; allowed: "),
        ({"model": "reid"}, 'rollout: no roll-out of "reid" goes on; allowed: '),
    ],
)
def test_control_names_what_is_not_there(runner: DagRunner, conf: dict[str, Any], said: str) -> None:
    nodes(runner, 1)
    hook = RolloutHook(logging.getLogger("tests"))
    with pytest.raises(InputError, match=f"^{re.escape(said)}"):
        hook.control(conf.get("rollout"), conf.get("model"), "abort")


def test_what_is_asked_of_a_roll_out(runner: DagRunner, dag: DAG) -> None:
    nodes(runner, 3)
    hook = RolloutHook(logging.getLogger("tests"))
    hook.plan("run", validated(dag, {"model": "reid", "tag": "1.0"}), lambda run_id: False)
    assert hook.control(1, None, "pause").startswith("roll-out 1 of reid:1.0: pauses")
    assert hook.control(None, "reid", "resume") == "roll-out 1 of reid:1.0: goes on"
    assert runner.run("control_rollout", model="reid", action="abort") == {"control": "success"}
    with pytest.raises(InputError, match="roll-out 1 of reid:1.0 has ended: aborted"):
        hook.control(1, None, "pause")


# -- gates -----------------------------------------------------------------------------------------------------------


def test_a_gate_waits_while_a_canary_is_pending_and_while_the_roll_out_pauses(runner: DagRunner, dag: DAG) -> None:
    nodes(runner, 2)
    hook = RolloutHook(logging.getLogger("tests"))
    hook.plan("run", validated(dag, {"model": "reid", "tag": "1.0", "waves": [1, "100%"]}), lambda run_id: False)
    with hook.engine.begin() as connection:
        end_node(connection, 1, 1, "pending", 0)
    assert hook.judge("run", 0).nodes is None
    with hook.engine.begin() as connection:
        end_node(connection, 1, 1, "succeeded", 0)
    hook.control(1, None, "pause")
    gate = hook.judge("run", 0)
    assert gate.nodes is None
    assert gate.message.endswith("pauses: evc rollouts resume 1")
    hook.control(1, None, "resume")
    assert hook.judge("run", 0).nodes == ["n2"]
    with pytest.raises(RolloutFailed, match="wave 2 was not approved by Kim"):
        hook.reject("run", 1, "Kim")
    with pytest.raises(RolloutFailed, match="has ended: wave 2 was not approved by Kim"):
        hook.judge("run", 1)
    with pytest.raises(RolloutFailed, match="roll-out 1 of reid:1.0: aborted: 1 aborted, 1 succeeded; wave 2 was not"):
        hook.finish("run")


def test_a_node_whose_task_never_began_fails_its_wave(runner: DagRunner, dag: DAG) -> None:
    nodes(runner, 2)
    hook = RolloutHook(logging.getLogger("tests"))
    hook.plan("run", validated(dag, {"model": "reid", "tag": "1.0", "waves": ["100%"]}), lambda run_id: False)
    with pytest.raises(RolloutFailed, match="wave 1: 0 of 2 succeeded, 2 failed: more than the error threshold"):
        hook.judge("run", 0)
    assert hook.to_restore("run") == []
    with pytest.raises(RolloutFailed, match="rolled_back: 2 failed"):
        hook.finish("run")


def test_a_gate_that_was_killed_leaves_no_node_out_that_may_have_been_changed(runner: DagRunner, dag: DAG) -> None:
    nodes(runner, 4)
    hook = RolloutHook(logging.getLogger("tests"))
    hook.plan("run", validated(dag, {"model": "reid", "tag": "1.0", "waves": [3, "100%"]}), lambda run_id: False)
    with hook.engine.begin() as connection:
        for node_id, end in ((1, "succeeded"), (2, "failed"), (3, None)):
            begin_node(connection, 1, node_id, 0)
            if end:
                end_node(connection, 1, node_id, end, 0)
    assert hook.to_restore("run") == ["n1", "n2", "n3"]
    assert hook.to_restore("run") == ["n1", "n2", "n3"]


def test_a_last_gate_that_was_killed_after_it_closed_the_roll_out_succeeds_at_its_retry(
    runner: DagRunner, dag: DAG
) -> None:
    nodes(runner, 1)
    hook = RolloutHook(logging.getLogger("tests"))
    hook.plan("run", validated(dag, {"model": "reid", "tag": "1.0", "waves": ["100%"]}), lambda run_id: False)
    with hook.engine.begin() as connection:
        begin_node(connection, 1, 1, 0)
        end_node(connection, 1, 1, "succeeded", 0)
    assert hook.judge("run", 0).nodes == []
    line = hook.finish("run")
    assert hook.judge("run", 0).nodes == []
    assert hook.finish("run") == line


def test_a_node_that_was_removed_meanwhile_is_no_failure_and_one_of_its_name_another(
    runner: DagRunner, dag: DAG
) -> None:
    nodes(runner, 3)
    log = logging.getLogger("tests")
    hook = RolloutHook(log)
    hook.plan("run", validated(dag, {"model": "reid", "tag": "1.0", "waves": ["100%"]}), lambda run_id: False)
    with hook.engine.begin() as connection:
        for name in ("n1", "n2"):
            remove_node(connection, name, 0)
        node_id, _ = store_node(connection, Node("n2", "127.0.0.99"), 1)
        assert node_id == 4
    for name in ("n1", "n2"):
        turn = DeploymentHook(log).deploy("run", name, is_last_try=False)
        assert (turn.kind, turn.message) == (Kind.SKIP, f"{name}: was removed from the fleet")
    with hook.engine.begin() as connection:
        end_node(connection, 1, 3, "succeeded", 0)
    with pytest.raises(RolloutFailed, match="1 of 3 succeeded, 0 failed, 2 did not answer"):
        hook.judge("run", 0)


def test_a_node_that_takes_for_ever_gives_its_slot_back_and_is_pending(
    runner: DagRunner, dag: DAG, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes(runner, 1)
    log = logging.getLogger("tests")
    planned = RolloutHook(log)
    planned.plan("run", validated(dag, {"model": "reid", "tag": "1.0", "waves": ["100%"]}), lambda run_id: False)

    class Reached:
        host_key = "k"

        async def session(self, *_: object) -> tuple[Reached, bool]:
            return self, True

        async def close(self) -> None:
            pass

    async def deploy(*_: object) -> None:
        await asyncio.sleep(60)

    hook = DeploymentHook(log)
    monkeypatch.setattr(hook, "_pool", Reached)
    monkeypatch.setattr("evc.hooks.deployment.deploy_node", deploy)
    monkeypatch.setattr("evc.hooks.deployment.TURN_TIMEOUT_S", 0.2)
    monkeypatch.setattr(registry_hook.RegistryHook, "pull_address", "registry.example:5001")
    turn = hook.deploy("run", "n1", is_last_try=False)
    assert turn.kind is Kind.SKIP
    assert "n1: not done within 0.2 s: pending" in turn.message
    assert planned.judge("run", 0).nodes is None
