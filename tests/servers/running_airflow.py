"""A whole running Airflow, `airflow standalone`, with a metrics database of its own; DAGs triggered as a user does."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Engine, text

from demo.airflow import PART, start_airflow
from demo.api import Api, NotFound
from demo.process import Process, family
from demo.state import State
from evc.store.database import embedded_url, open_engine, upgrade
from tests.servers.edge import EdgeFleet

_TASK = re.compile(r"airflow worker -- [0-9a-f-]{36}")
ENDED = {"success", "failed"}


@dataclass(frozen=True, slots=True)
class RunningAirflow:
    """One Airflow and its metrics database."""

    state: State
    api: Api
    engine: Engine

    def trigger(self, dag_id: str, **conf: Any) -> str:
        """Start a run by ``airflow dags trigger --conf``; returns its id."""
        run_id = f"test__{dag_id}__{time.time_ns()}"
        done = self.airflow("dags", "trigger", dag_id, "--run-id", run_id, "--conf", json.dumps(conf))
        assert done.returncode == 0, done.stdout + done.stderr
        return run_id

    def airflow(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run ``airflow`` as on a user's shell: after ``. .evc/env``."""
        argv: list[str | Path] = ["/bin/sh", "-c", '. "$0/env"; exec "$@"', self.state.folder]
        airflow = Path(sys.executable).with_name("airflow")
        return subprocess.run([*argv, airflow, *words], capture_output=True, text=True, timeout=180, check=False)

    def wait(self, dag_id: str, run_id: str, timeout_s: float = 300) -> str:
        """Wait until a run has ended; returns ``success`` or ``failed``."""
        self.until(lambda: self.api.run_state(dag_id, run_id) in ENDED, timeout_s, f"{dag_id} {run_id}")
        return self.api.run_state(dag_id, run_id)

    def run(self, dag_id: str, *, timeout_s: float = 300, expect: str = "success", **conf: Any) -> str:
        """Trigger a run and wait for its end, which must be ``expect``; returns its id."""
        run_id = self.trigger(dag_id, **conf)
        ended = self.wait(dag_id, run_id, timeout_s)
        assert ended == expect, f"{dag_id} ended as {ended}\n{self.api.failure(dag_id, run_id)}"
        return run_id

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances"
        return list(self.api.get(f"{path}?limit=1000")["task_instances"])

    def log(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, try_number: int = 1) -> str:
        """Return a task's log as the UI shows it, without the structure of its entries."""
        run = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances"
        found = self.api.get(f"{run}/{quote(task_id)}/logs/{try_number}?map_index={map_index}")
        return "\n".join(str(entry.get("event", "")) for entry in found["content"])

    def rows(self, query: str, **values: Any) -> list[dict[str, Any]]:
        """Return what a query of the metrics database finds."""
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(text(query), values).mappings()]

    def running_tasks(self) -> list[Process]:
        """Return the processes that run tasks, by the name that Airflow gives them."""
        root = self.state.started(PART)
        return [process for process in family([root] if root else []) if _TASK.match(_command_line(process))]

    def kill_tasks(self) -> int:
        """SIGKILL every process that runs a task; returns how many."""
        killed = self.running_tasks()
        for process in killed:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        return len(killed)

    @staticmethod
    def until(condition: Callable[[], object], timeout_s: float, what: str) -> None:
        """Wait for ``condition``; fails the test where it does not come."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"waited {timeout_s:g} s for {what}"
            time.sleep(0.3)


def _command_line(process: Process) -> str:
    with suppress(OSError):
        return (Path("/proc") / str(process.pid) / "cmdline").read_text(errors="replace")
    return ""


@contextmanager
def running_airflow(folder: Path, environment: Mapping[str, str], dags: tuple[str, ...]) -> Iterator[RunningAirflow]:
    """Start Airflow, switch ``dags`` on, yield it, end it with all that came of it.

    :param environment: variables beside those that the demo gives its Airflow, e.g. ``AIRFLOW_CONN_*``
    """
    state = State(folder)
    state.make_folders()
    engine = open_engine(embedded_url(state.folder))
    upgrade(engine)
    try:
        api = start_airflow(state, environment)
        airflow = RunningAirflow(state, api, engine)
        for dag_id in dags:
            airflow.until(lambda dag_id=dag_id: _is_parsed(api, dag_id), 120, f"DAG {dag_id}")  # type: ignore[misc]
            api.unpause(dag_id)
        yield airflow
    finally:
        state.stop(PART)
        engine.dispose()


def _is_parsed(api: Api, dag_id: str) -> bool:
    errors = api.get("/api/v2/importErrors")["import_errors"]
    assert not errors, errors
    with suppress(NotFound):
        api.get(f"/api/v2/dags/{dag_id}")
        return True
    return False


def fleet_environment(fleet: EdgeFleet, models: Path) -> dict[str, str]:
    """Return the variables by which an Airflow knows a fleet: logins, registry, accounts, model sources."""
    variables = {f"AIRFLOW_CONN_{name.upper()}": json.dumps(fields) for name, fields in fleet.connections().items()}
    return {
        **variables,
        "AIRFLOW__EVC__REGISTRY_FOLDER": str(fleet.registry.folder),
        "AIRFLOW__EVC__MODELS_FOLDER": str(models),
    }
