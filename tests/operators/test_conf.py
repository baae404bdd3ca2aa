"""Which keys a run's conf may have."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from airflow.sdk import Context

from evc.errors import InputError
from evc.operators.conf import params_of


def context(conf: dict[str, Any] | None, dag: dict[str, Any], task: dict[str, Any] | None = None) -> Context:
    task = {**dag, **(task or {})}  # as Airflow does
    given = {
        "dag": SimpleNamespace(dag_id="deploy_model", params=dag, task_dict={}),
        "task": SimpleNamespace(params=task),
        "dag_run": SimpleNamespace(conf=conf),
        "params": {**task, **(conf or {})},
    }
    return cast("Context", given)


@pytest.mark.parametrize("conf", [None, {}, {"nodes": ["a"]}, {"nodes": [], "own": 1}, {"openlineage": {}}])
def test_keys_that_dag_or_task_knows_are_the_params(conf: dict[str, Any] | None) -> None:
    params = params_of(context(conf, {"nodes": [], "tag": None}, {"own": 0}))
    assert params == {"nodes": [], "tag": None, "own": 0, **(conf or {})}


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("node", '"node" is no param of deploy_model, is nodes meant?; allowed: nodes, tag'),
        ("Tag", '"Tag" is no param of deploy_model, is tag meant?; allowed: nodes, tag'),
        ("zzz", '"zzz" is no param of deploy_model; allowed: nodes, tag'),
    ],
)
def test_another_key_is_refused_with_the_one_that_may_be_meant(key: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        params_of(context({key: 1}, {"nodes": [], "tag": None}))
    assert str(caught.value) == f"conf: {said}"


def test_a_dag_without_params_of_its_own_takes_any_key() -> None:
    assert params_of(context({"x": 1}, {})) == {"x": 1}
