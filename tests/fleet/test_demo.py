"""``make demo`` and ``make demo-stop`` from nothing: a real Airflow, three real SSH servers, real samples."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import select

from demo.api import Api
from demo.nodes import FLEET
from demo.process import Process, family
from demo.server import ADDRESS
from demo.state import PROJECT, State
from evc.store.database import embedded_url, open_engine
from evc.store.nodes import node_rows
from evc.store.samples import sample_rows
from evc.store.tables import sweeps

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
    environment = {**os.environ, "EVC_STATE": str(state.folder)}
    ran = subprocess.run(
        [sys.executable, "-m", "demo", command],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    return ran.stdout


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
