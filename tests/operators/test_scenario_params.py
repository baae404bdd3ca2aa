"""Params of a scenario's run whose file is changed while it goes on."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest
from airflow.sdk import DAG, Context
from sqlalchemy import Engine

from evc.errors import InputError, ScenarioFailed
from evc.hooks.identities import IdentitiesHook
from evc.hooks.scenarios import Begun, ScenarioHook
from evc.operators.conf import params_of
from evc.scenarios.dag import scenario_dag
from tests.store.batches import store_with_nodes

FILE = "farm.yaml"
THEN = """\
description: Looks at pictures
model: {name: farm, tag: "1.0"}
rollout: {waves: [1, "100%"]}
inference: {input: /srv/then, limit: 5}
"""
NOW = """\
description: Looks at other pictures
model: {name: yard, tag: "2.0"}
nodes: {labels: {site: north}}
rollout: {approval: true}
inference: {input: /srv/now, timeout_s: 7}
"""


@pytest.fixture
def begun(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of the file as it was then."""
    for module in ("scenarios", "identities"):
        monkeypatch.setattr(f"evc.hooks.{module}.checked_engine", lambda: engine)
    store_with_nodes(engine, 2)
    ScenarioHook(logging.getLogger()).begin(FILE, THEN, Begun("scenario_farm manual__1", "farm", (), ()))


def context(made: DAG, run_id: str = "manual__1", task_id: str = "inference.plan", **conf: Any) -> Context:
    """Return what Airflow gives a task of ``made``."""
    given = {
        "dag": made,
        "task": made.get_task(task_id),
        "dag_run": SimpleNamespace(conf=conf, run_id=run_id),
        "params": {**made.params.dump(), **conf},
    }
    return cast("Context", given)


@pytest.mark.usefixtures("begun")
def test_a_run_takes_what_the_file_said_when_it_began() -> None:
    now, then = scenario_dag(FILE, NOW.encode()), scenario_dag(FILE, THEN.encode())
    assert params_of(context(now)) == then.params.dump()
    assert params_of(context(now, limit=9, nodes=["n1"])) == {**then.params.dump(), "limit": 9, "nodes": ["n1"]}
    assert params_of(context(then)) == then.params.dump()
    assert params_of(context(now, "manual__2")) == now.params.dump()  # the next run takes the file as it is


@pytest.mark.usefixtures("begun")
@pytest.mark.parametrize(
    ("more", "refused", "goes_on"),
    [
        ("collect: true\n", ["collect.plan"], ["image", "rollout.plan", "inference.plan"]),
        ("identities: {}\n", [], ["image", "rollout.plan", "inference.infer"]),
        (
            "build: {builder: n1}\n",
            ["build", "rollout.plan", "inference.plan"],
            ["rollout.wave_1.gate", "inference.infer"],  # they have what they take
        ),
    ],
)
def test_of_a_file_that_has_other_steps_by_now_nothing_is_done_that_is_not_of_the_run(
    more: str, refused: list[str], goes_on: list[str]
) -> None:
    now, then = scenario_dag(FILE, (NOW + more).encode()), scenario_dag(FILE, THEN.encode())
    for task_id in refused:
        with pytest.raises(InputError) as caught:
            params_of(context(now, task_id=task_id))
        assert str(caught.value) == (
            'farm.yaml: has other steps than when "manual__1" began; '
            "allowed: image, rollout, inference; or trigger a new run"
        )
    for task_id in goes_on:
        assert params_of(context(now, task_id=task_id)) == then.params.dump()


@pytest.mark.usefixtures("begun")
def test_a_run_keeps_what_it_was_given_for_a_step_that_was_taken_out() -> None:
    then = scenario_dag(FILE, THEN.encode())
    now = scenario_dag(FILE, THEN.replace('rollout: {waves: [1, "100%"]}\n', "").encode())
    given: dict[str, Any] = {"waves": [2, "100%"]}
    assert params_of(context(now, task_id="inference.infer", **given)) == {**then.params.dump(), **given}
    with pytest.raises(InputError, match='"wave" is no param of scenario_farm, is waves meant'):
        params_of(context(now, task_id="inference.infer", wave=[]))


@pytest.mark.usefixtures("begun")
def test_a_run_that_began_without_identities_links_none() -> None:
    with pytest.raises(ScenarioFailed, match="farm: the run began without identities; trigger a new one"):
        IdentitiesHook(logging.getLogger()).match("scenario_farm manual__1")


@pytest.mark.parametrize("more", ["", "collect: true\n", "identities: {}\n", "build: {builder: b}\nrollout: {}\n"])
def test_files_with_the_same_steps_are_dags_with_the_same_tasks(more: str) -> None:
    least = "description: x\nmodel: {name: farm}\ninference: {}\n"
    made = scenario_dag(FILE, (least + more).encode())
    other = scenario_dag(FILE, (least.replace("farm", "yard") + more + "events: []\n").encode())
    assert (made.task_ids == other.task_ids) is True
    assert (made.task_ids == scenario_dag(FILE, least.encode()).task_ids) is (not more)


def test_the_form_says_which_nodes_are_taken_where_none_is_named() -> None:
    def said(text: str) -> str:
        found = scenario_dag(FILE, text.encode()).params.get_param("nodes").description
        assert found
        return found

    assert said(THEN).endswith("all.")
    assert said("description: x\nmodel: {name: farm}\ninference: {}\n").endswith("all on which it is deployed.")
