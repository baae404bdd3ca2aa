"""Logs of real nodes: collected, masked, and what is not there left out."""

from __future__ import annotations

import logging
import stat
import tarfile
import time
from pathlib import Path

import pytest

from evc.errors import InputError
from evc.hooks.fleet import FleetHook
from evc.hooks.logs import LogsHook
from evc.hooks.playbooks import PlaybooksHook
from tests.servers.airflow import DagRunner
from tests.servers.edge import EdgeFleet
from tests.servers.edge_node import EdgeNode

LOG = logging.getLogger("tests.fleet.collect_logs")


@pytest.fixture
def runner(dag_runner: DagRunner, edge_fleet: EdgeFleet) -> DagRunner:
    dag_runner.connect(edge_fleet)
    dag_runner.setting("nominatim_url", "")
    dag_runner.setting("connect_timeout_s", "2")
    return dag_runner


def contents(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read().decode() for member in archive}  # type: ignore[union-attr]


def test_what_nodes_have_is_collected_and_masked(
    runner: DagRunner, edge_fleet: EdgeFleet, edge_nodes: list[EdgeNode], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first, second, away = edge_nodes
    for node in edge_nodes:
        FleetHook(LOG).register({"name": node.name, "host": node.address, "user": "root"})
    digest = edge_fleet.push_image("talker", "1.0", script="exec sleep 1000000")
    first.trust(edge_fleet.registry)
    image = f"{edge_fleet.registry.address(edge_fleet.registry.pull)}/talker@{digest}"
    said = "echo seen rtsp://cam:hunter22@10.0.0.9/1; echo token=abcdef12 >&2; echo done"
    with first.engine() as engine:
        ours = {"evc.model": "talker", "evc.config": "x"}
        first.run("docker", "pull", image)
        engine.containers.run(
            image, ["sh", "-c", said], name="evc-talker", labels=ours, detach=True, environment={"KEY": "s3cr3t"}
        )
        engine.containers.run(image, ["sh", "-c", "echo private"], name="other", detach=True)
    away.cut(fast=True)
    time.sleep(1)
    assert runner.run("collect_logs", since="10m") == {"collect": "success"}
    (folder,) = (runner.state_folder / "logs").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["edge-1.tar.gz", "edge-2.tar.gz"]
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.stat().st_size < 1_000_000
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = contents(folder / "edge-1.tar.gz")
    assert {"facts.txt", "engine.json", "containers/evc-talker.log", "notes.txt", "files/var_log_docker.log"} <= set(
        files
    )
    log = files["containers/evc-talker.log"]
    assert "seen rtsp://cam:***@10.0.0.9/1" in log
    assert "token=***" in log
    assert "done" in log
    everything = "".join(files.values())
    assert "containers/other.log" not in files
    for secret in ("hunter22", "abcdef12", "s3cr3t", "private\n"):
        assert secret not in everything
    assert "journal.log: no journalctl here" in files["notes.txt"]
    assert "meminfo" in files["facts.txt"]
    assert "API listen on" in files["files/var_log_docker.log"]
    for node in (first, second):
        assert "evc-logs" not in node.run("ls", "/tmp")


def test_a_node_without_an_engine_yields_what_it_has(runner: DagRunner, clean_node: EdgeNode) -> None:
    FleetHook(LOG).register({"name": clean_node.name, "host": clean_node.address, "user": "root"})
    clean_node.kill_engine()
    try:
        LogsHook(LOG, PlaybooksHook(LOG)).collect("manual__2026-01-01T00:00:00+00:00", [], [], "1h")
    finally:
        clean_node.start_engine()
    (path,) = (runner.state_folder / "logs").glob("*/*")
    assert path.parent.name == "manual__2026-01-01T00_00_00_00_00"
    files = contents(path)
    assert "engine: " in files["notes.txt"]
    assert "facts.txt" in files


def test_of_a_long_log_the_end_is_kept(runner: DagRunner, clean_node: EdgeNode) -> None:
    FleetHook(LOG).register({"name": clean_node.name, "host": clean_node.address, "user": "root"})
    clean_node.run("sh", "-c", "seq -f 'line %.0f of a log' 1 3000000 >/var/log/syslog")
    try:
        sizes = LogsHook(LOG, PlaybooksHook(LOG)).collect("r", ["edge-1"], [], "1h")
    finally:
        clean_node.run("rm", "/var/log/syslog")
    text = contents(runner.state_folder / "logs" / "r" / "edge-1.tar.gz")["files/var_log_syslog"]
    assert text.endswith("line 3000000 of a log\n")
    assert len(text) < 7_000_000
    assert sizes["edge-1"] < 5_000_000


def test_a_time_that_does_not_fit_is_refused_before_any_node_is_asked(runner: DagRunner, clean_node: EdgeNode) -> None:
    FleetHook(LOG).register({"name": clean_node.name, "host": clean_node.address, "user": "root"})
    hook = LogsHook(LOG, PlaybooksHook(LOG))
    with pytest.raises(InputError, match="since"):
        hook.collect("r", [], [], "yesterday")
    with pytest.raises(InputError, match="nosuch"):
        hook.collect("r", ["nosuch"], [], "1h")
    with pytest.raises(Exception, match="(?i)invalid|not"):
        runner.run("collect_logs", since="2 weeks")
    assert not (runner.state_folder / "logs").exists()
