"""What run_inference plans: from a selection and what is deployed to a digest for each node."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import insert

from evc.errors import InputError, NodeTimeout
from evc.fleet.nodes import Node
from evc.hooks.inference import InferenceHook, Wanted, run_key
from evc.store.nodes import store_node
from evc.store.tables import assignments, builds
from tests.fleet.reid import model
from tests.servers.airflow import DagRunner
from tests.store.batches import TS

OLD, NEW, BUILT = ("sha256:" + letter * 64 for letter in "abc")


def spec(**more: object) -> Mapping[str, Any]:
    return model(**{"mode": "on_demand", "inputs": ["file"], **more}).model_dump(mode="json")


@pytest.fixture
def hook(dag_runner: DagRunner) -> InferenceHook:
    """Three nodes; reid is deployed on two of them, by different digests."""
    hook = InferenceHook(logging.getLogger("tests.inference"))
    with hook.database.begin() as connection:
        ids = [
            store_node(connection, Node(f"n{number}", f"10.0.0.{number}", groups=(group,)), TS)[0]
            for number, group in ((1, "farm"), (2, "farm"), (3, "shop"))
        ]
        for node_id, digest in zip(ids, (OLD, NEW), strict=False):
            row = {
                "node_id": node_id, "model": "reid", "repository": "reid", "digest": digest, "spec": spec(), "ts": TS,
                "status": "running",
            }  # fmt: skip
            connection.execute(insert(assignments), row)
        build = {
            "run_id": "b", "model": "reid", "version": "1", "repository": "reid", "tag": "1", "platform": "linux/amd64",
            "builder_id": ids[0], "source_revision": "sha256:s", "spec": spec(inputs=["url"]), "status": "succeeded",
            "digest": BUILT, "started_ts": TS,
        }  # fmt: skip
        connection.execute(insert(builds), build)
    return hook


def plan(hook: InferenceHook, **more: Any) -> dict[str, str]:
    return {each["node"]: each["digest"] for each in hook.plan(Wanted(**{"model": "reid", **more}))}


def test_what_is_deployed_runs_where_it_is_deployed(hook: InferenceHook) -> None:
    assert plan(hook) == {"n1": OLD, "n2": NEW}
    assert plan(hook, nodes=("n2",)) == {"n2": NEW}
    assert plan(hook, groups=("farm",), given="/data/a.avi") == {"n1": OLD, "n2": NEW}


def test_a_named_digest_runs_anywhere(hook: InferenceHook) -> None:
    assert plan(hook, digest=BUILT, nodes=("n3",), given="rtsp://cam/1") == {"n3": BUILT}
    assert plan(hook, digest=BUILT) == {"n1": BUILT, "n2": BUILT}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"model": "../reid"}, "model: "),
        ({"model": "other"}, "model: .*deployed on no node"),
        ({"model": "other", "digest": BUILT, "nodes": ("n1",)}, "other"),
        ({"nodes": ("n9",)}, "nodes: .*not registered"),
        ({"groups": ("none",)}, "groups: .*without a node"),
        ({"nodes": ("n1", "n3")}, "nodes: .*not deployed on n3"),
        ({"digest": "sha256:abc"}, "digest: "),
        ({"tag": "a b"}, "tag: "),
        ({"given": "/dev/video0"}, "input: .*is a camera; allowed: what reid takes: file"),
        ({"given": "a.avi"}, "input: .*does not fit"),
        ({"digest": BUILT, "nodes": ("n1",), "given": "/data/a.avi"}, "input: .*takes: url"),
    ],
    ids=repr,
)
def test_what_makes_no_sense_is_refused(hook: InferenceHook, more: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan(hook, **more)


def test_a_run_is_known_by_its_dag_too() -> None:
    assert run_key("run_inference", "infer", "manual__1") == "manual__1"
    assert run_key("scenario_farm", "infer", "manual__1") == "scenario_farm.infer manual__1"
    # as long as Airflow allows, it is kept as it is: who looks it up need not know how it was shortened
    assert run_key("d" * 250, "t" * 250, "r" * 250) == f"{'d' * 250}.{'t' * 250} {'r' * 250}"


@pytest.mark.parametrize(
    "conf",
    [
        {"model": "../x"},
        {"model": ""},
        {"tag": "a b"},
        {"digest": "sha256:1"},
        {"nodes": "n1"},
        {"input": "a.avi"},
        {"input": 7},
        {"limit": 0},
        {"limit": "7"},
        {"timeout_s": 0},
        {"timeout_s": None},
        {"timeout_s": 86_401},
    ],
    ids=repr,
)
def test_a_value_that_does_not_fit_is_refused_before_a_run_starts(dag_runner: DagRunner, conf: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="(?i)invalid|not"):
        dag_runner.run("run_inference", **{"model": "reid", **conf})
    assert not (dag_runner.state_folder / "metrics.db").exists()


def test_nothing_runs_continuously(dag_runner: DagRunner) -> None:
    assert dag_runner.run("collect_results") == {"collect": "success"}


def test_a_node_that_takes_for_ever_gives_its_slot_back(hook: InferenceHook, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []

    class Reached:
        async def session(self, *_: object) -> tuple[object, bool]:
            return self, True

        async def close(self) -> None:
            ended.append("closed")

    class Endless:
        async def run(self, session: object) -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

    monkeypatch.setattr(hook, "_pool", Reached)
    once: Any = Endless()
    with pytest.raises(NodeTimeout, match=r"^edge-1: not done within 0\.1 s$"):
        hook._run(hook._once(once, Node("edge-1", "127.0.0.1"), {}, 0.1))
    assert ended == ["cancelled", "closed"]
