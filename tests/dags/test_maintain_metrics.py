"""maintain_metrics, run by Airflow against real databases."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func, select

from evc.hooks import airflow_rows
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


def test_zero_days_keep_for_ever(dag_runner: DagRunner, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(airflow_rows, "clean", lambda folder, days: None)
    dag_runner.setting("retention_logs_days", "0")
    dag_runner.setting("retention_samples_days", "0")
    use(dag_runner, engine)
    ids = store_with_nodes(engine, 1)
    write(engine, sweep_batch(ids, int(time.time()) - 400 * DAY_S))
    assert dag_runner.run("maintain_metrics") == {"maintain": "success", "detect_anomalies": "success"}
    assert counts(engine)[0] == 1
