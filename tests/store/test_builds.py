"""Models and builds, in both databases."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, func, select

from evc.store.builds import begin_build, build_rows, end_build, find_build, last_build, store_model
from evc.store.tables import builds, models
from tests.store.batches import TS, store_with_nodes

DIGEST = "sha256:" + "a" * 64
BUILD = {
    "model": "reid",
    "version": "1.0",
    "repository": "reid",
    "tag": "1.0",
    "platform": "linux/amd64",
    "source_revision": "sha256:1",
    "spec": {"name": "reid", "environment": {"A": "한국어"}},
}


@pytest.fixture
def build(engine: Engine) -> dict[str, Any]:
    return {**BUILD, "builder_id": store_with_nodes(engine, 1)[0]}


def test_a_retry_is_the_same_row(engine: Engine, build: dict[str, Any]) -> None:
    with engine.begin() as connection:
        first = begin_build(connection, "run-1", build, TS)
        end_build(connection, "run-1", "failed", TS + 1, message="no reason")
        assert begin_build(connection, "run-1", {**build, "source_revision": "sha256:2"}, TS + 5) == first
        row = find_build(connection, "run-1")
        assert row
        assert (row["status"], row["message"], row["finished_ts"]) == ("running", None, None)
        assert (row["started_ts"], row["source_revision"]) == (TS, "sha256:2")
        end_build(connection, "run-1", "succeeded", TS + 9, digest=DIGEST, size_bytes=7)
        assert begin_build(connection, "run-2", build, TS) != first
        assert connection.execute(select(func.count()).select_from(builds)).scalar() == 2
        assert find_build(connection, "run-3") is None


def test_the_last_build_is_the_last_that_reached_the_registry(engine: Engine, build: dict[str, Any]) -> None:
    with engine.begin() as connection:
        assert last_build(connection, "reid", "1.0", "linux/amd64") is None
        for number, status in enumerate(("succeeded", "unchanged", "failed", "running")):
            begin_build(connection, f"run-{number}", build, TS + number)
            if status != "running":
                digest = None if status == "failed" else DIGEST
                end_build(connection, f"run-{number}", status, TS + number, digest=digest)
        last = last_build(connection, "reid", "1.0", "linux/amd64")
        assert last
        assert (last["run_id"], last["digest"], last["spec"]) == ("run-1", DIGEST, BUILD["spec"])
        assert last["builder"]
        assert last_build(connection, "reid", "1.0", "linux/arm64") is None
        assert last_build(connection, "reid", "2.0", "linux/amd64") is None
        assert [row["run_id"] for row in build_rows(connection, "reid", limit=2)] == ["run-3", "run-2"]
        assert build_rows(connection, "other") == []


def test_a_model_is_stored_as_it_is_now(engine: Engine) -> None:
    spec = {"name": "reid", "description": "x", "task": "reid", "version": "1.0"}
    with engine.begin() as connection:
        store_model(connection, spec, "sha256:1", TS)
        store_model(connection, {**spec, "version": "1.1"}, "sha256:2", TS + 1)
        row = connection.execute(select(models)).mappings().one()
    assert (row["name"], row["version"], row["source_revision"], row["updated_ts"]) == (
        "reid",
        "1.1",
        "sha256:2",
        TS + 1,
    )
    assert row["spec"]["version"] == "1.1"
