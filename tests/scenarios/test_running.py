"""Scenario files in a running Airflow: what its UI shows of good and of broken ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from demo.api import NotFound
from evc.fleet.nodes import make_node
from evc.store.nodes import store_node
from evc.store.tables import assignments
from tests.servers.running_airflow import RunningAirflow, running_airflow

pytestmark = [pytest.mark.fleet, pytest.mark.xdist_group("fleet")]

SPEC = {
    "name": "farm", "description": "x", "task": "farm", "version": "1.0", "inputs": ["folder"],
    "results": [{"kind": "cover"}],
}  # fmt: skip
GOOD = "description: Looks at pictures\nmodel: {name: farm}\ninference: {}\n"


def errors(airflow: RunningAirflow) -> dict[str, str]:
    """Return by file name the last line of each import error."""
    found = airflow.api.get("/api/v2/importErrors")["import_errors"]
    return {str(error["filename"]): str(error["stack_trace"]).strip().splitlines()[-1] for error in found}


def dag(airflow: RunningAirflow, name: str) -> dict[str, Any] | None:
    try:
        return dict(airflow.api.get(f"/api/v2/dags/scenario_{name}"))
    except NotFound:
        return None


def test_a_broken_file_is_shown_and_a_mended_one_is_a_dag(tmp_path: Path) -> None:
    folder = tmp_path / "scenarios"
    folder.mkdir()
    (folder / "farm.yaml").write_text(GOOD)
    (folder / "bad.yaml").write_text(GOOD.replace("inference", "inferenc"))
    with running_airflow(tmp_path / "state", {"AIRFLOW__EVC__SCENARIOS_FOLDER": str(folder)}, ()) as airflow:
        airflow.until(lambda: dag(airflow, "farm") and errors(airflow), 120, "both files")
        assert (airflow.api.get("/api/v2/dags/scenario_farm")["is_paused"], dag(airflow, "bad")) == (False, None)
        said = errors(airflow)
        assert list(said) == ["bad.py"]
        assert said["bad.py"].startswith(
            "evc.errors.InputError: bad.yaml:3: inferenc: unknown key, is inference meant?"
        )

        (folder / "bad.yaml").write_text(GOOD)
        airflow.until(lambda: dag(airflow, "bad") and not errors(airflow), 120, "the mended file")
        (folder / "bad.yaml").unlink()
        airflow.until(lambda: (dag(airflow, "bad") or {"is_stale": True})["is_stale"], 180, "the end of a deleted one")
        assert not errors(airflow)

        away = folder.rename(tmp_path / "away")
        airflow.until(lambda: errors(airflow), 120, "word of the folder that is gone")
        assert list(errors(airflow)) == ["_folder.py"]
        assert f"[evc] scenarios_folder: {folder}: No such file or directory" in errors(airflow)["_folder.py"]
        farm = dag(airflow, "farm")
        assert farm
        assert not farm["is_stale"]
        away.rename(folder)
        airflow.until(lambda: not errors(airflow), 120, "word of the folder that is back")


def test_a_file_that_is_changed_while_a_run_goes_on_is_the_next_runs(tmp_path: Path) -> None:
    folder = tmp_path / "scenarios"
    folder.mkdir()
    file = folder / "farm.yaml"
    then = GOOD.replace("inference: {}", "collect: true\ninference: {input: /srv/then, timeout_s: 5}")
    file.write_text(then)
    environment = {
        "AIRFLOW__EVC__SCENARIOS_FOLDER": str(folder),
        "AIRFLOW_CONN_EVC_NODES": json.dumps({"conn_type": "ssh", "login": "edge", "password": "x"}),
        "AIRFLOW_CONN_EVC_REGISTRY": json.dumps(
            {"conn_type": "docker", "host": "127.0.0.1", "port": 1, "login": "evc", "password": "x",
             "extra": {"pull_address": "127.0.0.1:2"}}
        ),
    }  # fmt: skip
    with running_airflow(tmp_path / "state", environment, ()) as airflow:
        with airflow.engine.begin() as connection:
            node_id, _ = store_node(connection, make_node({"name": "n1", "host": "127.0.0.1", "port": 1}), 1)
            row = {"repository": "farm", "digest": f"sha256:{'a' * 64}", "spec": SPEC, "ts": 1, "status": "running"}
            connection.execute(assignments.insert().values(**row, node_id=node_id, model="farm"))
        airflow.until(lambda: dag(airflow, "farm"), 120, "the file")
        run_id = airflow.trigger("scenario_farm")
        airflow.until(lambda: airflow.rows("SELECT 1 FROM scenario_runs"), 120, "the end of select")
        now = then.replace("Looks at", "Has other").replace("/srv/then", "/srv/now")
        file.write_text(now)
        assert not airflow.rows("SELECT 1 FROM inference_runs")
        airflow.until(lambda: airflow.rows("SELECT 1 FROM inference_runs"), 180, "the model's task")
        assert "Has other" in (folder.parent / "state").glob("**/scenarios/dags/farm.py").__next__().read_text()
        assert airflow.rows("SELECT input FROM inference_runs") == [{"input": "/srv/then"}]

        file.write_text(now + "identities: {}\n")  # a step that this run began without
        assert airflow.wait("scenario_farm", run_id) == "failed"
        (run,) = airflow.rows("SELECT content, status FROM scenario_runs")
        assert run == {"content": then, "status": "failed"}
