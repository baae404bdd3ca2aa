"""Figure 5: what Airflow adds: parsing the DAGs, and a run of collect_telemetry beyond its sweeps."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh

from bench.child import PROJECT, BenchError, run, wait_for
from bench.cpu import memory_mb, tree_cpu_s, tree_pids
from bench.stage import Stage
from bench.table import Section
from demo import airflow
from demo.api import Api
from demo.nodes import FLEET, start_nodes
from demo.state import DemoError, State
from evc.fleet.nodes import make_node
from evc.ssh.session import key_text
from evc.store.database import embedded_url, open_engine, upgrade
from evc.store.nodes import store_node

DAG = "collect_telemetry"
WINDOW_S = 300
INTERVAL_S = 30
_TRIVIAL = """\"\"\"A DAG that imports nothing but Airflow.\"\"\"
from airflow.sdk import BaseOperator, Param, dag

class Nothing(BaseOperator):
    def execute(self, context):
        return None

@dag(schedule=None, params={{"number": Param(1, type="integer")}})
def {name}():
    Nothing(task_id="nothing")

{name}()
"""


def measure(stage: Stage) -> Section:
    """Parse ``dags/`` in a fresh process, then count the processor time of a real Airflow around real runs."""
    section = Section("5. Airflow")
    _add_parsing(section, stage.new_folder())
    try:
        with contextlib.redirect_stdout(sys.stderr), _running_airflow(stage.new_folder()) as running:
            _add_run(section, running, runs=4)
    except DemoError as error:
        raise BenchError(str(error)) from None
    return section


# -- parsing -----------------------------------------------------------------------------------------------------------


def _add_parsing(section: Section, folder: Path) -> None:
    folder.mkdir()
    count = len(list((PROJECT / "dags").glob("*.py")))
    warm, floor = _write_trivial(folder / "warm", 1), _write_trivial(folder / "floor", count)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
    }

    def parse(of: Path) -> dict[str, Any]:
        told: dict[str, Any] = run("parse_dags", {"known": [str(warm)], "folder": str(of)}, environment)
        if told["errors"]:
            raise BenchError(f"{of} could not be parsed: {told['errors'][0]}")
        return told

    own, least = parse(PROJECT / "dags"), parse(floor)
    section.add(f"parsing dags/, {own['dags']} DAGs, Airflow imported before", own["seconds"], "s")
    section.add(
        f"floor: {least['dags']} DAGs that import nothing but Airflow",
        least["seconds"],
        "s",
        least["seconds"] / own["seconds"],
    )
    section.add("importing Airflow and parsing one such DAG", own["import_s"], "s", own["import_s"] / own["seconds"])


def _write_trivial(folder: Path, count: int) -> Path:
    folder.mkdir()
    for index in range(count):
        (folder / f"trivial_{index}.py").write_text(_TRIVIAL.format(name=f"trivial_{index}"))
    return folder


# -- a run -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Running:
    """An Airflow of the demo's kind with three nodes.

    :param parser: the pid of its DAG processor, which parses all day whether a DAG runs or not
    """

    api: Api
    pid: int
    parser: int

    def cpu_s(self) -> float:
        """Return what all its processes but the DAG processor's have used."""
        return tree_cpu_s(self.pid) - tree_cpu_s(self.parser)

    def unfinished(self) -> list[str]:
        """Return the ids of the manual runs that have not ended. :raises BenchError: one failed"""
        runs = self.api.get(f"/api/v2/dags/{DAG}/dagRuns?run_type=manual&limit=100")["dag_runs"]
        failed = [one["dag_run_id"] for one in runs if one["state"] == "failed"]
        if failed:
            raise BenchError(f"{DAG} failed:\n{self.api.failure(DAG, failed[0])}")
        return [one["dag_run_id"] for one in runs if one["state"] != "success"]


@contextlib.contextmanager
def _running_airflow(folder: Path) -> Iterator[_Running]:
    state = State(folder)
    state.make_folders()
    state.make_keys(tuple(node.name for node in FLEET))
    try:
        ports = start_nodes(state, {})
        _store_fleet(state, ports)
        api = airflow.start_airflow(state)
        started = state.started(airflow.PART)
        assert started
        yield _Running(api, started.pid, _find(started.pid, "dag-processor"))
    finally:
        state.stop(airflow.PART, *(node.name for node in FLEET))


def _store_fleet(state: State, ports: dict[str, int]) -> None:
    engine = open_engine(embedded_url(state.folder))
    upgrade(engine)
    with engine.begin() as connection:
        for node in FLEET:
            key = key_text(asyncssh.read_private_key(state.host_key(node.name)))
            store_node(connection, make_node({**node.conf(ports[node.name]), "host_key": key}), int(time.time()))
    engine.dispose()


def _find(root: int, word: str) -> int:
    """Return the pid of the first process below ``root`` whose command line holds ``word``."""
    for pid in tree_pids(root):
        with contextlib.suppress(OSError):
            if word in Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("_", "-"):
                return pid
    raise BenchError(f"Airflow has no process {word}")


def _add_run(section: Section, running: _Running, runs: int) -> None:
    _begin(running)
    idle = _rate(running, 20)
    short = _net(running, runs, sweeps=1, idle=idle)
    # a second sweep comes 30 s later: what the run costs more is what waiting 30 s costs
    long = _net(running, 2, sweeps=2, idle=idle)
    waiting = max(0.0, long - short) / INTERVAL_S * WINDOW_S
    section.add(f"a run of {DAG} beyond its sweeps", short + waiting, "s CPU")
    section.add("  its two tasks, begin to end", short, "s CPU")
    section.add(f"  waiting between sweeps, {WINDOW_S} s", waiting, "s CPU")
    section.add("Airflow without a run, same time", idle * WINDOW_S, "s CPU")
    section.add("resident memory of Airflow's processes", sum(map(_memory_mb, tree_pids(running.pid))), "MB")
    section.remarks += [
        f"airflow standalone, LocalExecutor, SQLite; all its processes but the DAG processor's; {runs} runs at once,"
        " each one sweep of three nodes, less what Airflow uses meanwhile anyway",
        "resident memory counts pages that processes share once for each of them",
    ]


def _memory_mb(pid: int) -> float:
    try:
        return memory_mb(pid, "VmRSS")
    except OSError:
        return 0.0


def _begin(running: _Running) -> None:
    """Let the scheduled run begin, and one more run end: caches are warm after that."""
    wait_for("the DAG", _quiet(lambda: running.api.get(f"/api/v2/dags/{DAG}")), 120)
    running.api.unpause(DAG)
    running.api.trigger(DAG, {"sweeps": 1})
    _until_done(running)


def _quiet(ask: Callable[[], Any]) -> Callable[[], Any]:
    def answer() -> Any:
        try:
            return ask()
        except DemoError:
            return None

    return answer


def _until_done(running: _Running) -> None:
    wait_for(f"runs of {DAG}", lambda: None if running.unfinished() else True, 120, every_s=1)


def _rate(running: _Running, seconds: float) -> float:
    """Return processor seconds a second while no run begins or ends; the API is asked as often as later."""
    before, begun = running.cpu_s(), time.monotonic()
    while time.monotonic() - begun < seconds:
        running.unfinished()
        time.sleep(1)
    return (running.cpu_s() - before) / (time.monotonic() - begun)


def _net(running: _Running, runs: int, sweeps: int, idle: float) -> float:
    """Return processor seconds of one run, less what Airflow uses anyway."""
    count = f"/api/v2/dags/{DAG}/dagRuns?limit=1"
    known = int(running.api.get(count)["total_entries"])
    before, begun = running.cpu_s(), time.monotonic()
    for _ in range(runs):
        running.api.trigger(DAG, {"sweeps": sweeps})
    _until_done(running)
    used = running.cpu_s() - before - idle * (time.monotonic() - begun)
    # a scheduled run may have begun meanwhile
    return used / (int(running.api.get(count)["total_entries"]) - known)
