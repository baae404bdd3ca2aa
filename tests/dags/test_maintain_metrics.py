"""maintain_metrics, run by Airflow against real databases."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func, select

from evc.hooks import airflow_rows, maintenance
from evc.hooks.maintenance import MaintenanceHook
from evc.store.rollups import FINE
from evc.store.tables import node_samples, node_samples_1h, node_samples_5m
from evc.store.writer import write
from tests.servers.airflow import DagRunner
from tests.store.batches import store_with_nodes, sweep_batch

DAY_S = 86_400


def use(dag_runner: DagRunner, engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        dag_runner.connection("evc_metrics", conn_type="sqlite", host=str(engine.url.database))
        return
    url = engine.url
    dag_runner.connection(
        "evc_metrics", conn_type="postgres", host=url.host, port=url.port, login=url.username,
        password=url.password, schema=url.database,
    )  # fmt: skip


def counts(engine: Engine) -> tuple[Any, ...]:
    with engine.connect() as connection:
        tables = (node_samples, node_samples_5m, node_samples_1h)
        return tuple(connection.scalar(select(func.count()).select_from(table)) for table in tables)


def test_a_run_rolls_up_removes_and_tells(
    dag_runner: DagRunner,
    engine: Engine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    cleaned: list[int] = []
    monkeypatch.setattr(airflow_rows, "clean", lambda folder, days: cleaned.append(days))
    logs = tmp_path / "logs"
    monkeypatch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(logs))
    old_log = logs / "dag_id=d" / "run_id=r" / "attempt=1.log"
    old_log.parent.mkdir(parents=True)
    old_log.write_text("line")
    os.utime(old_log, (0, 0))
    use(dag_runner, engine)
    ids = store_with_nodes(engine, 2)
    now_ts = int(time.time())
    for ts in (now_ts - 40 * DAY_S, now_ts - 7200, FINE.bucket(now_ts)):
        write(engine, sweep_batch(ids, ts))
    assert dag_runner.run("maintain_metrics") == {"maintain": "success", "detect_anomalies": "success"}
    assert counts(engine) == (4, 4, 4)  # the oldest sample is gone, its buckets are not; the youngest is not over
    assert not old_log.exists()
    assert cleaned == [30]
    said = "".join(capfd.readouterr())
    assert "node_samples_5m: 4 rows made" in said
    assert "node_samples: removed 2 rows" in said
    assert "database: " in said
    assert "Airflow's logs: deleted 1 files" in said
    assert dag_runner.run("maintain_metrics") == {"maintain": "success", "detect_anomalies": "success"}
    assert counts(engine) == (4, 4, 4)


def test_a_clock_that_is_ahead_deletes_nothing(
    dag_runner: DagRunner, sqlite_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    dag_runner.setting("retention_logs_days", "0")
    use(dag_runner, sqlite_engine)
    (node_id,) = store_with_nodes(sqlite_engine, 1)
    now_ts = int(time.time()) // 3600 * 3600
    write(sqlite_engine, sweep_batch([node_id], now_ts - 7200))

    def round_at(ts: int) -> dict[str, int]:
        return MaintenanceHook(logging.getLogger("tests.maintenance")).run(ts)

    assert round_at(now_ts)["removed"] == 0
    assert round_at(now_ts + 400 * DAY_S)["removed"] == 0
    assert "the clock is more than a day ahead" in caplog.text
    write(sqlite_engine, sweep_batch([node_id], now_ts))
    assert round_at(now_ts + 7200)["rolled_up"] > 0
    assert counts(sqlite_engine)[0] == 2


@pytest.mark.parametrize(("age_s", "is_due"), [(-1, True), (0, False), (DAY_S, False), (DAY_S + 1, True)])
def test_logs_are_due_once_a_day_whatever_the_clock_was(tmp_path: Path, age_s: int, is_due: bool) -> None:
    file = tmp_path / "done"
    assert maintenance._is_due(file, 1_700_000_000)
    file.touch()
    os.utime(file, (1_700_000_000.5, 1_700_000_000.5))
    assert maintenance._is_due(file, 1_700_000_000 + age_s) == is_due


def test_zero_days_keep_for_ever(dag_runner: DagRunner, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(airflow_rows, "clean", lambda folder, days: None)
    dag_runner.setting("retention_logs_days", "0")
    dag_runner.setting("retention_samples_days", "0")
    use(dag_runner, engine)
    ids = store_with_nodes(engine, 1)
    write(engine, sweep_batch(ids, int(time.time()) - 400 * DAY_S))
    assert dag_runner.run("maintain_metrics") == {"maintain": "success", "detect_anomalies": "success"}
    assert counts(engine)[0] == 1
