"""An Airflow of each test process: its own home and metadata, and DAG runs inside the test's process."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from demo.airflow import BUNDLES

if TYPE_CHECKING:
    from tests.servers.edge import EdgeFleet

DAGS = Path(__file__).parents[2] / "dags"

# before the first import of airflow by any test: it reads its configuration then, once
_HOME = Path(tempfile.mkdtemp(prefix="evc-tests-airflow-"))
os.environ.update(
    {
        "AIRFLOW_HOME": str(_HOME),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(DAGS.parent / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(BUNDLES),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": f"{_HOME}/bundles",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_HOME}/airflow.db",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
    }
)


def pytest_unconfigure() -> None:
    """Delete the home."""
    shutil.rmtree(_HOME, ignore_errors=True)


class DagRunner:
    """Runs DAGs of this project to their end."""

    def __init__(self, state_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state_folder = state_folder
        self._monkeypatch = monkeypatch
        self.setting("state_folder", str(state_folder))

    def setting(self, name: str, value: str) -> None:
        """Set one of ``[evc]``."""
        self._monkeypatch.setenv(f"AIRFLOW__EVC__{name.upper()}", value)

    def connection(self, conn_id: str, **fields: Any) -> None:
        """Define an Airflow connection."""
        self._monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))

    def connect(self, fleet: EdgeFleet) -> None:
        """Define the connections by which EVC knows a fleet."""
        for conn_id, fields in fleet.connections().items():
            self.connection(conn_id, **fields)

    def run(self, dag_id: str, **conf: Any) -> dict[str, str]:
        """Run a DAG; returns the state of every task instance, ``TASK_ID`` or ``TASK_ID[INDEX]``."""
        return self.run_file(DAGS / f"{dag_id}.py", dag_id, **conf)

    def run_file(self, file: Path, dag_id: str, **conf: Any) -> dict[str, str]:
        """Run a DAG of a file of one's own, as :meth:`run` does."""
        from airflow.dag_processing.dagbag import DagBag

        bag = DagBag(file)
        assert not bag.import_errors, bag.import_errors
        run = bag.dags[dag_id].test(run_conf=conf)
        return {
            ti.task_id if ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]": str(ti.state)
            for ti in run.get_task_instances()
        }


@pytest.fixture(scope="session")
def _airflow_metadata() -> None:
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def dag_runner(_airflow_metadata: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DagRunner:
    """Runs DAGs with a state folder of the test's own and no connection but those the test defines."""
    return DagRunner(tmp_path / "state", monkeypatch)
