"""``make demo`` and ``make demo-stop`` from nothing: a real Airflow, three real SSH servers, real samples."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import func, select

from demo.api import Api
from demo.nodes import FLEET
from demo.process import Process, family
from demo.server import ADDRESS
from demo.state import State
from evc.store.database import embedded_url, open_engine
from evc.store.nodes import node_rows
from evc.store.samples import sample_rows
from evc.store.tables import sweeps
from tests.servers.demo import run_demo

pytestmark = pytest.mark.fleet
NAMES = [node.name for node in FLEET]


@dataclass(frozen=True, slots=True)
class Demo:
    state: State
    first: str

    def url(self, printed: str) -> str:
        found = re.search(r"^Airflow +(http://\S+)", printed, re.MULTILINE)
        assert found
        return found[1]


def _run(state: State, command: str) -> str:
    # no engine, whatever this machine has: that is test_demo_scenario's
    return run_demo(state, command, DOCKER_HOST=f"unix://{state.folder}/no.sock")


def _roots(state: State) -> list[Process]:
    return [root for part in ("airflow", *NAMES) if (root := state.started(part))]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    state = State(tmp_path_factory.mktemp("state 상태"))
    try:
        yield Demo(state, _run(state, "up"))
    finally:
        _run(state, "down")


def _rows_of_table(printed: str) -> dict[str, list[str]]:
    lines = (line.split() for line in printed.splitlines())
    return {words[0]: words[1:] for words in lines if words and words[0] in NAMES}


def test_samples_of_every_node_are_printed(demo: Demo) -> None:
    rows = _rows_of_table(demo.first)
    assert sorted(rows) == NAMES
    assert {cells[1] for cells in rows.values()} == {"up"}
    assert {float(cells[2]) >= 0 for cells in rows.values()} == {True}  # CPU: needs a reading before this one
    assert re.search(r"password: \S{12,}", demo.first)
    assert "make demo-stop" in demo.first
    assert "no scenario is shown, a model needs a Docker Engine of this machine: no Docker Engine answers" in demo.first


def test_samples_of_collect_telemetry_are_in_the_database(demo: Demo) -> None:
    engine = open_engine(embedded_url(demo.state.folder))
    with engine.connect() as connection:
        registered = node_rows(connection)
        samples = {name: sample_rows(connection, name) for name in NAMES}
        swept = connection.execute(select(sweeps.c.run_id, sweeps.c.nodes_up)).all()
    engine.dispose()
    assert [row["name"] for row in registered] == NAMES
    assert {row["status"] for row in registered} == {"up"}
    assert {row["address"] for row in registered} == {node.address for node in FLEET}
    assert all(len(rows) >= 2 and rows[0]["memory_total_bytes"] > 0 for rows in samples.values())
    assert any(nodes_up == len(NAMES) for _, nodes_up in swept)


def test_a_second_up_takes_over_what_runs(demo: Demo) -> None:
    before = _roots(demo.state)
    printed = _run(demo.state, "up")
    assert "Airflow runs already" in printed
    assert "registered already" in printed
    assert sorted(_rows_of_table(printed)) == NAMES
    assert _roots(demo.state) == before


def test_ansible_reaches_the_nodes_by_the_inventory(demo: Demo) -> None:
    ansible = Path(sys.executable).with_name("ansible")
    command: list[str | Path] = [ansible, "-i", demo.state.hosts_ini, "demo", "-m", "ping"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.stdout.count('"ping": "pong"') == 3, ran.stdout + ran.stderr


def test_airflow_on_a_shell_means_the_same_one(demo: Demo) -> None:
    script = '. "$0/env"; exec "$1" config get-value database sql_alchemy_conn'
    command: list[str | Path] = ["/bin/sh", "-c", script, demo.state.folder, Path(sys.executable).with_name("airflow")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert str(demo.state.airflow_home) in ran.stdout


def test_a_bad_conf_is_refused_and_a_failed_run_shows_its_reason(demo: Demo) -> None:
    api = Api(demo.url(demo.first), "admin", demo.state.secrets()["password"])
    with pytest.raises(Exception, match="answered 400"):
        api.trigger("register_node", {"name": "a b", "host": ADDRESS})


def _running_tasks(demo: Demo) -> list[Process]:
    """Return the processes that run tasks, by the name that Airflow gives them."""

    def name(process: Process) -> str:
        with suppress(OSError):
            return (Path("/proc") / str(process.pid) / "cmdline").read_text(errors="replace")
        return ""

    running = re.compile(r"airflow worker -- [0-9a-f-]{36}")
    return [process for process in family(_roots(demo.state)) if running.match(name(process))]


def _wait(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)


def test_a_killed_task_is_retried_and_goes_on_with_the_remaining_sweeps(demo: Demo) -> None:
    api = Api(demo.url(demo.first), "admin", demo.state.secrets()["password"])
    engine = open_engine(embedded_url(demo.state.folder))

    def swept(run_id: str) -> int:
        with engine.connect() as connection:
            return int(connection.execute(select(func.count()).where(sweeps.c.run_id == run_id)).scalar_one())

    run_id = api.trigger("collect_telemetry", {"groups": ["demo"], "sweeps": 2})
    _wait(lambda: swept(run_id) == 1, 180)
    killed = _running_tasks(demo)
    assert killed
    for process in killed:
        os.kill(process.pid, signal.SIGKILL)
    _wait(lambda: api.run_state("collect_telemetry", run_id) in {"success", "failed"}, 120)
    assert api.run_state("collect_telemetry", run_id) == "success"
    assert swept(run_id) == 2
    tasks = api.get(f"/api/v2/dags/collect_telemetry/dagRuns/{quote(run_id)}/taskInstances")["task_instances"]
    assert {task["task_id"]: task["try_number"] for task in tasks} == {"plan": 1, "sweep": 2}
    log = api.get(f"/api/v2/dags/collect_telemetry/dagRuns/{quote(run_id)}/taskInstances/sweep/logs/2?map_index=0")
    lines = [str(entry.get("event")) for entry in log["content"]]
    assert "an earlier try of this task did 1 sweeps" in lines
    assert sum(line.startswith("sweep 1/1 at ") and "3 up, 0 down" in line for line in lines) == 1
    engine.dispose()


def test_a_run_is_triggered_on_the_console_with_conf(demo: Demo) -> None:
    airflow = Path(sys.executable).with_name("airflow")
    script = '. "$0/env"; exec "$@"'
    conf = '{"name": "demo-1"}'
    trigger: list[str | Path] = ["/bin/sh", "-c", script, demo.state.folder, airflow, "dags", "trigger", "remove_node"]
    done = subprocess.run([*trigger, "--conf", conf], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    engine = open_engine(embedded_url(demo.state.folder))

    def names() -> list[str]:
        with engine.connect() as connection:
            return [row["name"] for row in node_rows(connection)]

    _wait(lambda: names() == NAMES[1:], 180)
    _wait(lambda: "\ndemo-1 " not in demo.state.hosts_ini.read_text(), 60)  # written after the table
    refused = subprocess.run(
        [*trigger, "--conf", '{"name": ";rm -rf /"}'], capture_output=True, text=True, timeout=120, check=False
    )
    assert refused.returncode != 0
    assert "Invalid input for param name" in refused.stderr + refused.stdout
    assert "registering demo-1: DAG register_node" in _run(demo.state, "up")
    assert names() == NAMES
    engine.dispose()


def test_down_leaves_nothing_running(demo: Demo) -> None:
    roots = _roots(demo.state)
    everything = family(roots)
    assert len(everything) > 8
    port = int(demo.url(demo.first).rpartition(":")[2])
    assert _run(demo.state, "down").startswith(f"stopped {len(everything)} ")
    assert family([*roots, *everything]) == set()
    with socket.socket() as connection, pytest.raises(ConnectionRefusedError):
        connection.connect((ADDRESS, port))
    assert (demo.state.folder / "metrics.db").is_file()
    assert _run(demo.state, "down").startswith("stopped 0 ")
