"""sync_registry and delete_image, run by Airflow against a real registry."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.airflow import DagRunner
from tests.servers.registry_faces import RegistryServer, running_registry


@pytest.fixture
def registry(tmp_path: Path, dag_runner: DagRunner) -> Iterator[RegistryServer]:
    with running_registry(tmp_path / "registry") as server:
        dag_runner.connection("evc_registry", **server.connection)
        yield server


def tags(runner: DagRunner) -> list[Any]:
    with sqlite3.connect(runner.state_folder / "metrics.db") as connection:
        return connection.execute("SELECT tag, gone_ts IS NULL FROM registry_images ORDER BY tag").fetchall()


def test_sync_delete_sync(registry: RegistryServer, dag_runner: DagRunner, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    digest = registry.push("reid", "1.0", "latest")
    registry.push("reid", "2.0")
    assert dag_runner.run("sync_registry") == {"sync": "success"}
    assert tags(dag_runner) == [("1.0", 1), ("2.0", 1), ("latest", 1)]
    assert dag_runner.run("delete_image", repository="reid", tag="latest") == {"find": "success", "delete": "success"}
    assert tags(dag_runner) == [("1.0", 0), ("2.0", 1), ("latest", 0)]
    assert dag_runner.run("sync_registry") == {"sync": "success"}
    assert tags(dag_runner) == [("1.0", 0), ("2.0", 1), ("latest", 0)]
    with registry.client() as client:
        assert digest not in client.tagged("reid").values()
    assert registry.connection["password"] not in caplog.text


def test_what_is_refused_deletes_nothing(registry: RegistryServer, dag_runner: DagRunner) -> None:
    digest = registry.push("reid", "1.0")
    other = registry.push("reid", "2.0")
    for wrong in ({"tag": "9.9"}, {"tag": "1.0", "digest": other}, {}, {"digest": "sha256:" + "0" * 64}):
        assert dag_runner.run("delete_image", repository="reid", **wrong) == {
            "find": "failed",
            "delete": "upstream_failed",
        }
    with registry.client() as client:
        assert client.tagged("reid") == {"1.0": digest, "2.0": other}


@pytest.mark.parametrize(
    "conf",
    [
        {},
        {"repository": "../reid", "tag": "1"},
        {"repository": "Reid", "tag": "1"},
        {"repository": "reid", "tag": "-1"},
        {"repository": "reid", "digest": "sha256:1"},
        {"repository": "reid", "tag": 1},
        {"repository": "reid", "tag": "1", "force": "yes"},
    ],
)
def test_bad_conf_is_refused_before_a_run_starts(dag_runner: DagRunner, conf: dict[str, Any]) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        dag_runner.run("delete_image", **conf)


def test_a_registry_that_is_away_fails_the_task_in_one_line(
    registry: RegistryServer, dag_runner: DagRunner, caplog: pytest.LogCaptureFixture
) -> None:
    registry.push("reid", "1.0")
    dag_runner.run("sync_registry")
    registry.stop()
    caplog.clear()
    assert dag_runner.run("sync_registry") == {"sync": "failed"}
    errors = [record.getMessage() for record in caplog.records if record.name == "evc.operators.refusal"]
    assert len(errors) == 2, "a line a try"
    assert errors[0] == errors[1]
    assert errors[0].startswith("registry 127.0.0.1:")
    assert tags(dag_runner) == [("1.0", 1)]


def test_without_a_registry_there_is_nothing_to_sync(dag_runner: DagRunner) -> None:
    assert dag_runner.run("sync_registry") == {"sync": "skipped"}
