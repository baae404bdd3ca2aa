"""The pool that roll-outs need."""

from __future__ import annotations

import logging

import pytest

from evc.hooks import pools
from tests.servers.airflow import DagRunner


def slots() -> int | None:
    from airflow.models.pool import Pool

    found = Pool.get_pool(pools.NAME)
    return found and int(found.slots)


def start_component() -> None:
    """Do what scheduler, DAG processor and triggerer do first: it is what calls the listener."""
    from airflow.jobs.job import Job

    Job()  # type: ignore[no-untyped-call]


def test_nothing_happens_where_a_task_starts(dag_runner: DagRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.models.pool import Pool
    from airflow.sdk.execution_time.task_runner import TaskRunnerMarker

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a task may not use the metadata database")

    monkeypatch.setattr(Pool, "create_or_update_pool", refuse)
    pools.on_starting(component=TaskRunnerMarker())


def test_airflow_calls_the_listener_of_the_plugin() -> None:
    from airflow.listeners.listener import get_listener_manager

    assert get_listener_manager().pm.is_registered(pools)


def test_the_pool_is_made_and_follows_the_setting(dag_runner: DagRunner) -> None:
    start_component()
    assert slots() == 8
    start_component()
    dag_runner.setting("pull_slots", "3")
    start_component()
    assert slots() == 3


def test_a_setting_that_does_not_fit_is_told_and_stops_nothing(
    dag_runner: DagRunner, caplog: pytest.LogCaptureFixture
) -> None:
    start_component()
    dag_runner.setting("pull_slots", "many")
    with caplog.at_level(logging.ERROR, pools.__name__):
        start_component()
    assert slots() == 8
    assert caplog.messages == [
        'pool evc_pulls: [evc] pull_slots: "many" is not a number; allowed: a whole number from 1 to 1024'
    ]
