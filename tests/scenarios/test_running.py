"""Scenario files in a running Airflow: what its UI shows of good and of broken ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from demo.api import NotFound
from tests.servers.running_airflow import RunningAirflow, running_airflow

pytestmark = [pytest.mark.fleet, pytest.mark.xdist_group("fleet")]

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
