"""DAG build_model, and autorun.yaml: the same by hand."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from evc.hooks.fleet import FleetHook
from evc.store.nodes import store_node
from tests.servers.airflow import DagRunner
from tests.servers.edge import EdgeFleet
from tests.servers.edge_node import EdgeNode

ROOT = Path(__file__).parents[2]
ARGUMENTS = {"BASE": "base/python:3.11"}


@pytest.mark.parametrize(
    "conf",
    [
        {"model": "../reid"},
        {"model": "a/b"},
        {"model": ""},
        {"model": None},
        {"model": "A"},
        {"model": "a" * 64},
        {"builder": ""},
        {"builder": "a b"},
        {"builder": None},
        {"tag": "a b"},
        {"tag": ".x"},
        {"tag": 1.1},
        {"platform": "arm64"},
        {"platform": "linux/sparc"},
        {"platform": ["linux/amd64"]},
        {"arguments": {"a b": "x"}},
        {"arguments": {"A": 1}},
        {"arguments": {"A": "x\ny"}},
        {"arguments": ["A=1"]},
        {"force": "yes"},
    ],
)
def test_a_value_that_does_not_fit_starts_no_run(dag_runner: DagRunner, conf: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="Invalid input for param|ParamValidationError"):
        dag_runner.run("build_model", **{"model": "reid", "builder": "build-1", **conf})


@pytest.fixture
def runner(dag_runner: DagRunner, edge_fleet: EdgeFleet, builder: EdgeNode) -> DagRunner:
    builder.run("rm", "-rf", "/root/.evc")
    dag_runner.connect(edge_fleet)
    hook = FleetHook(logging.getLogger("tests"))
    with hook.engine.begin() as connection:
        store_node(connection, builder.node(), int(time.time()))
    hook.publish()
    return dag_runner


def rows(runner: DagRunner) -> list[Any]:
    with sqlite3.connect(runner.state_folder / "metrics.db") as connection:
        return connection.execute("SELECT model, tag, status, digest IS NOT NULL FROM builds ORDER BY id").fetchall()


@pytest.mark.fleet
@pytest.mark.xdist_group("fleet")
def test_the_example_is_built_and_then_unchanged(runner: DagRunner) -> None:
    conf = {"model": "picture-check", "builder": "builder", "arguments": ARGUMENTS}
    assert runner.run("build_model", **conf) == {"build": "success"}
    assert runner.run("build_model", **conf, tag="1.10") == {"build": "success"}
    assert runner.run("build_model", **conf) == {"build": "success"}
    assert rows(runner) == [
        ("picture-check", "1.0", "succeeded", 1),
        ("picture-check", "1.10", "succeeded", 1),
        ("picture-check", "1.0", "unchanged", 1),
    ]


@pytest.mark.fleet
@pytest.mark.xdist_group("fleet")
def test_what_does_not_exist_fails_at_once(runner: DagRunner, caplog: pytest.LogCaptureFixture) -> None:
    assert runner.run("build_model", model="other", builder="builder") == {"build": "failed"}
    assert runner.run("build_model", model="picture-check", builder="nobody") == {"build": "failed"}
    assert rows(runner) == []


def by_hand(runner: DagRunner, *variables: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(runner.state_folder / "hosts.ini")]
    command += [str(ROOT / "playbooks" / "autorun.yaml"), "-v"]
    for variable in variables:
        command += ["-e", variable]
    environment = {"PATH": os.environ["PATH"], "HOME": str(runner.state_folder), "LC_ALL": "C.UTF-8"}
    with tempfile.TemporaryDirectory(dir="/tmp") as sockets:  # the path of a socket has to be short
        environment["ANSIBLE_SSH_CONTROL_PATH_DIR"] = sockets
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.fleet
@pytest.mark.xdist_group("fleet")
def test_autorun_builds_and_pushes_by_hand(
    runner: DagRunner, edge_fleet: EdgeFleet, builder: EdgeNode, tmp_path: Path
) -> None:
    registry = edge_fleet.registry
    account, address = registry.push.account, registry.address(registry.push)
    builder.trust(registry, log_in=False)
    secrets = tmp_path / "registry.yaml"
    secrets.touch(0o600)
    secrets.write_text(
        f"registry_address: '{address}'\nregistry_account: {account.login}\nregistry_password: {account.password}\n"
    )
    variables = ["builder=builder", "model=picture-check", json.dumps({"arguments": ARGUMENTS}), f"@{secrets}"]
    done = by_hand(runner, *variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert account.password not in done.stdout + done.stderr
    assert "digest: sha256:" in done.stdout
    assert "config.json" not in builder.run("sh", "-c", "find / -xdev -name config.json -path '*evc*' 2>/dev/null")
    assert "picture-check" in builder.run("docker", "image", "ls", f"{address}/picture-check:1.0")

    secrets.write_text(secrets.read_text().replace(account.password, "wrong-password"))
    done = by_hand(runner, *variables)
    assert done.returncode != 0
    assert "wrong-password" not in done.stdout + done.stderr
    assert "config.json" not in builder.run("sh", "-c", "find / -xdev -name config.json -path '*evc*' 2>/dev/null")
