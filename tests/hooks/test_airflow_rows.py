"""Airflow's own rows, deleted by its own command, started where a run's success is heard."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from evc.hooks import airflow_rows
from tests.servers.airflow import DagRunner


def success(dag_id: str = airflow_rows.DAG_ID) -> None:
    airflow_rows.on_dag_run_success(dag_run=SimpleNamespace(dag_id=dag_id), msg="")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines that were started; each waits until it is told to end."""
    commands: list[list[str]] = []

    def command(days: int) -> list[str]:
        commands.append([str(days)])
        return [sys.executable, "-c", "raise SystemExit(3)"]

    monkeypatch.setattr(airflow_rows, "command", command)
    monkeypatch.setattr(airflow_rows, "_running", [])
    return commands


def test_airflow_calls_the_listener_of_the_plugin() -> None:
    from airflow.listeners.listener import get_listener_manager

    assert get_listener_manager().pm.is_registered(airflow_rows)


def test_once_a_day_after_maintain_metrics(dag_runner: DagRunner, started: list[list[str]]) -> None:
    success("collect_telemetry")
    assert started == []
    success()
    success()
    assert started == [["30"]]
    airflow_rows._running[0].wait(20)
    file = dag_runner.state_folder / airflow_rows.LOG
    long_ago = time.time() - airflow_rows.EVERY_S - 1
    os.utime(file, (long_ago, long_ago))
    success()
    assert len(started) == 2
    airflow_rows._running[0].wait(20)
    ahead = time.time() + 400 * 86_400  # of a clock that was wrong
    os.utime(file, (ahead, ahead))
    success()
    assert len(started) == 3


def test_zero_days_leave_airflow_alone(dag_runner: DagRunner, started: list[list[str]]) -> None:
    dag_runner.setting("retention_logs_days", "0")
    success()
    assert started == []


def test_what_failed_is_told(dag_runner: DagRunner, started: list[list[str]], caplog: pytest.LogCaptureFixture) -> None:
    success()
    airflow_rows._running[0].wait(20)
    with caplog.at_level(logging.ERROR, airflow_rows.__name__):
        success()
    assert "airflow db clean ended with 3" in caplog.text


def test_a_setting_that_does_not_fit_stops_no_scheduler(
    dag_runner: DagRunner, started: list[list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    dag_runner.setting("retention_logs_days", "many")
    success()
    assert "retention_logs_days" in caplog.text
    assert started == []


def test_the_real_command_deletes_what_is_old(
    dag_runner: DagRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.models.log import Log
    from airflow.utils.session import create_session

    monkeypatch.setattr(airflow_rows, "_running", [])
    now = datetime.now(UTC)
    with create_session() as session:
        for days, name in ((40, "old"), (20, "young")):
            row = Log(event=name)
            row.dttm = now - timedelta(days=days)
            session.add(row)
    process = airflow_rows.clean(tmp_path, 30)
    assert process
    assert process.wait(120) == 0, (tmp_path / airflow_rows.LOG).read_text()
    with create_session() as session:
        left = {event for (event,) in session.query(Log.event).filter(Log.event.in_(["old", "young"]))}
    assert left == {"young"}
    shown = subprocess.list2cmdline(airflow_rows.command(30))
    assert os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] not in shown
