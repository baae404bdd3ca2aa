"""The DAG of a scenario: steps in their order, params with what the file says as defaults."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from airflow.sdk import DAG

from evc.scenarios.dag import scenario_dag

BASE = "description: Looks at pictures\nmodel: {name: farm}\n"
INFER = "inference: {input: /srv/pictures, limit: 5}\n"
BUILD = "build: {builder: build-1, arguments: {BASE: base/opencv}}\n"
ROLL_OUT = "rollout: {waves: [100%], if_busy: refuse}\n"


def dag(*parts: str) -> DAG:
    return scenario_dag("farm.yaml", "".join((BASE, *parts)).encode())


def order(made: DAG) -> list[str]:
    """Return the tasks in an order in which they can run, those of waves left out."""
    ids: list[str] = [task.task_id for task in made.topological_sort()]  # type: ignore[no-untyped-call]
    return [name for name in ids if ".wave_" not in name and ".rollback." not in name]


@pytest.mark.parametrize(
    ("parts", "steps"),
    [
        ((INFER,), ["select", "inference.plan", "inference.infer", "finish"]),
        (("collect: true\n",), ["select", "collect.plan", "collect.sweep", "finish"]),
        ((BUILD,), ["select", "build", "finish"]),
        ((INFER, "identities: {}\n"), ["select", "inference.infer", "match_identities", "finish"]),
        (
            (BUILD, ROLL_OUT, INFER),
            ["select", "build", "rollout.plan", "rollout.finish", "inference.plan", "inference.infer", "finish"],
        ),
    ],
)
def test_what_the_file_names_is_done_in_its_order(parts: tuple[str, ...], steps: list[str]) -> None:
    made = dag(*parts)
    assert [name for name in order(made) if name in steps] == steps
    for before, after in pairwise(steps):
        assert after in made.get_task(before).get_flat_relative_ids()


def test_it_is_a_success_where_every_task_that_is_not_of_one_node_is() -> None:
    from evc.operators.finish_scenario import FinishScenarioOperator

    finish = dag("collect: true\n", BUILD, ROLL_OUT, INFER, "identities: {}\n").get_task("finish")
    assert isinstance(finish, FinishScenarioOperator)
    plans = ["collect.plan", "rollout.plan", "inference.plan"]
    assert set(finish.steps) == {"select", "collect.sweep", "build", "rollout.finish", "match_identities", *plans}


def test_a_named_image_is_resolved_once() -> None:
    made = scenario_dag("farm.yaml", BASE.replace("farm}", 'farm, tag: "1.0"}').encode() + (ROLL_OUT + INFER).encode())
    assert made.get_task("image").upstream_task_ids == {"select"}
    assert {"rollout.plan", "inference.plan"} <= made.get_task("image").downstream_task_ids


def test_the_params_are_those_of_the_hand_triggered_dags_with_what_the_file_says() -> None:
    params: dict[str, Any] = dag("nodes: {groups: [farm]}\n", BUILD, ROLL_OUT, INFER).params.dump()
    said = {
        "model": "farm", "groups": ["farm"], "builder": "build-1", "arguments": {"BASE": "base/opencv"},
        "waves": ["100%"], "if_busy": "refuse", "success_threshold": 90.0, "input": "/srv/pictures", "limit": 5,
    }  # fmt: skip
    assert {key: params[key] for key in said} == said
    assert "digest" not in params  # the build makes it
    assert "digest" in dag(INFER).params


def test_it_runs_when_the_file_says_in_its_time_zone() -> None:
    made = dag('schedule: "0 6 * * *"\ntimezone: Asia/Seoul\n', INFER)
    timetable: Any = made.timetable
    assert (timetable.expression, str(timetable.timezone)) == ("0 6 * * *", "Asia/Seoul")
    assert dag(INFER).schedule is None
    assert dag(INFER).start_date == datetime(2026, 1, 1, tzinfo=UTC)


def test_the_last_gate_skips_its_roll_out_and_nothing_beyond() -> None:
    from evc.operators.judge_wave import JudgeWaveOperator

    made = dag(BUILD, ROLL_OUT, INFER)
    gate = made.get_task("rollout.wave_1.gate")
    assert isinstance(gate, JudgeWaveOperator)
    ids = {task.task_id for task in gate._rest()}
    assert {"rollout.wave_2.deploy", "rollout.rollback.restore", "rollout.finish"} <= ids
    assert all(name.startswith("rollout.") for name in ids)
