"""The DAGs, run by Airflow against a real sshd."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from tests.servers.airflow import DagRunner
from tests.servers.sshd import SshServer, free_port


@pytest.fixture
def runner(dag_runner: DagRunner, sshd: SshServer) -> DagRunner:
    dag_runner.connection("evc_nodes", conn_type="ssh", login=sshd.user, extra={"key_file": str(sshd.key_file)})
    dag_runner.setting("nominatim_url", "")
    dag_runner.setting("sweep_interval_s", "6")
    dag_runner.setting("sweep_window_s", "12")
    dag_runner.setting("connect_timeout_s", "1")
    dag_runner.setting("sweep_timeout_s", "4")
    return dag_runner


def rows(runner: DagRunner, query: str) -> list[Any]:
    with sqlite3.connect(runner.state_folder / "metrics.db") as connection:
        return connection.execute(query).fetchall()


def test_register_collect_remove(runner: DagRunner, sshd: SshServer) -> None:
    assert runner.run(
        "register_node",
        name="edge-1",
        host="127.0.0.1",
        port=sshd.port,
        groups=["farm"],
        address="경기도 수원시 영통구",
        labels={"site": "수원 2공장"},
    ) == {"register": "success", "locate": "success", "copy_cert": "skipped"}
    assert rows(runner, "SELECT name, status, host_key, location_source FROM nodes") == [
        ("edge-1", "up", sshd.host_key, "gazetteer")
    ]
    assert rows(runner, "SELECT up, load1 IS NOT NULL, storage_total_bytes > 0 FROM node_samples") == [(1, 1, 1)]
    hosts_ini = (runner.state_folder / "hosts.ini").read_text()
    assert "[farm]" in hosts_ini

    assert runner.run("collect_telemetry", nodes=["edge-1"], sweeps=2) == {"plan": "success", "sweep[0]": "success"}
    assert rows(runner, "SELECT count(*), sum(cpu_usage_ratio IS NOT NULL) FROM node_samples") == [(3, 2)]

    assert runner.run("remove_node", name="edge-1") == {"remove": "success"}
    assert rows(runner, "SELECT status, removed_ts IS NOT NULL FROM nodes") == [("removed", 1)]
    assert "edge-1" not in (runner.state_folder / "hosts.ini").read_text()
    assert rows(runner, "SELECT count(*) FROM node_samples") == [(3,)]


def test_an_empty_fleet_is_nothing_to_do(runner: DagRunner) -> None:
    assert runner.run("collect_telemetry")["plan"] == "success"
    assert rows(runner, "SELECT count(*) FROM sweeps") == [(0,)]


def test_a_dead_node_is_data_and_no_failed_task(runner: DagRunner, sshd: SshServer) -> None:
    runner.run("register_node", name="edge-1", host="127.0.0.1", port=sshd.port)
    with sqlite3.connect(runner.state_folder / "metrics.db") as connection:
        connection.execute("UPDATE nodes SET port = ?", (free_port(),))
    assert runner.run("collect_telemetry", sweeps=2)["sweep[0]"] == "success"
    assert rows(runner, "SELECT up, count(*) FROM node_samples GROUP BY 1") == [(0, 2), (1, 1)]
    assert rows(runner, "SELECT status FROM nodes") == [("down",)]
    assert rows(runner, "SELECT count(*) FROM node_events WHERE kind = 'down'") == [(1,)]


@pytest.mark.parametrize(
    "conf",
    [
        *({"name": name} for name in ("", "a b", "a/b", 'a"b', "a\nb", ";rm -rf /", "a" * 300, "카메라")),
        *({"name": name} for name in (7, None, ["a"])),
        *({"port": port} for port in (0, 65536, "22", None)),
        {"groups": "farm"},
        {"groups": ["a b"]},
        {"labels": {"a": 1}},
        {"labels": {"a b": "x"}},
        {"thermal_unit": "kelvin"},
        {"host": "a b"},
        {"host_key": "AAAA"},
    ],
    ids=repr,
)
def test_a_value_that_does_not_fit_is_refused_before_a_run_starts(runner: DagRunner, conf: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="(?i)invalid|not"):
        runner.run("register_node", **{"name": "edge-1", "host": "127.0.0.1", **conf})
    assert not (runner.state_folder / "metrics.db").exists()
