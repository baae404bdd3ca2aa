"""Login and removal of nodes, on real engines with a real registry."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from sqlalchemy import text

from evc.errors import PlaybookFailed
from evc.hooks.fleet import FleetHook
from evc.hooks.logins import LoginsHook
from evc.hooks.playbooks import PlaybooksHook
from evc.hooks.removal import RemovalHook
from tests.servers.airflow import DagRunner
from tests.servers.edge import EdgeFleet
from tests.servers.edge_node import EdgeNode

LOG = logging.getLogger("tests.fleet.registry_login")
CONFIG = "/root/.docker/config.json"


@pytest.fixture
def runner(dag_runner: DagRunner, edge_fleet: EdgeFleet) -> DagRunner:
    registry = edge_fleet.registry
    dag_runner.connect(edge_fleet)
    dag_runner.setting("registry_folder", str(registry.folder))
    dag_runner.setting("nominatim_url", "")
    dag_runner.setting("connect_timeout_s", "2")
    return dag_runner


def register(runner: DagRunner, node: EdgeNode) -> dict[str, str]:
    return runner.run("register_node", name=node.name, host=node.address, user="root")


def rows(query: str) -> list[Any]:
    with FleetHook(LOG).engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def pull_address(fleet: EdgeFleet) -> str:
    return fleet.registry.address(fleet.registry.pull)


def accounts(fleet: EdgeFleet) -> list[str]:
    return fleet.registry.server.folder.pull_only.accounts.logins()


def test_registered_the_node_pulls_and_removed_it_does_not(
    runner: DagRunner, edge_fleet: EdgeFleet, clean_node: EdgeNode
) -> None:
    node, address = clean_node, pull_address(edge_fleet)
    node.write_file(
        CONFIG, json.dumps({"auths": {"other.test": {"auth": "eDp5"}}, "detachKeys": "ctrl-q"}).encode(), 0o644
    )
    digest = edge_fleet.push_image("login", "1.0")
    assert register(runner, node) == {"register": "success", "locate": "success", "copy_cert": "success"}
    config = json.loads(node.run("cat", CONFIG))
    assert set(config["auths"]) == {"other.test", address}
    assert config["detachKeys"] == "ctrl-q"
    assert node.run("stat", "-c", "%a %U", CONFIG).split() == ["600", "root"]
    assert node.run("stat", "-c", "%a", f"/etc/docker/certs.d/{address}/ca.crt").strip() == "644"
    image = f"{address}/login@{digest}"
    node.run("docker", "pull", image)
    first = config["auths"][address]
    assert register(runner, node)["copy_cert"] == "success"
    assert json.loads(node.run("cat", CONFIG))["auths"][address] != first, "registering again renews the login"

    labels = {"evc.model": "login", "evc.config": "x"}
    with node.engine() as engine:
        engine.containers.run(image, ["sleep", "1000"], detach=True, labels=labels)
        mine = engine.containers.run(image, ["sleep", "1000"], detach=True, name="mine")
    node_id = rows("SELECT max(id) FROM nodes")[0][0]
    # what a user kept of the password does not help either
    node.run("cp", CONFIG, "/root/config.before")
    assert runner.run("remove_node", name=node.name) == {"remove": "success"}
    assert rows("SELECT status FROM nodes") == [("removed",)]
    assert f"node-{node_id}" not in accounts(edge_fleet)
    assert set(json.loads(node.run("cat", CONFIG))["auths"]) == {"other.test"}
    assert "No such file" in node.run("ls", "/etc/docker/certs.d", check=False)
    with node.engine() as engine:
        assert [container.name for container in engine.containers.list(ignore_removed=True, all=True)] == ["mine"]
        mine.remove(force=True)
        engine.images.remove(image, force=True)
    node.run("mv", "/root/config.before", CONFIG)
    node.trust(edge_fleet.registry, log_in=False)
    assert "unauthorized" in node.run("docker", "pull", image, check=False)


def test_a_node_that_is_away_is_refused_at_once_and_cleaned_when_it_is_back(
    runner: DagRunner, edge_fleet: EdgeFleet, clean_node: EdgeNode
) -> None:
    node, address = clean_node, pull_address(edge_fleet)
    digest = edge_fleet.push_image("login", "1.0")
    register(runner, node)
    node.cut(fast=True)
    assert runner.run("remove_node", name=node.name) == {"remove": "success"}
    assert rows("SELECT status, removed_ts IS NOT NULL FROM nodes") == [("pending_cleanup", 1)]
    assert node.name not in (runner.state_folder / "hosts.ini").read_text()
    assert RemovalHook(LOG).cleanup_pending() == {"cleaned": 0, "pending": 1}
    node.restore()
    assert "unauthorized" in node.run("docker", "pull", f"{address}/login@{digest}", check=False)
    assert RemovalHook(LOG).cleanup_pending() == {"cleaned": 1, "pending": 0}
    assert rows("SELECT status FROM nodes") == [("removed",)]
    assert "No such file" in node.run("ls", "/root/.docker", check=False)
    assert "No such file" in node.run("ls", "/etc/docker/certs.d", check=False)


def test_cleaning_up_for_an_old_registration_leaves_the_new_one_its_login(
    runner: DagRunner, edge_fleet: EdgeFleet, clean_node: EdgeNode
) -> None:
    node, address = clean_node, pull_address(edge_fleet)
    digest = edge_fleet.push_image("login", "1.0")
    register(runner, node)
    node.cut(fast=True)
    runner.run("remove_node", name=node.name)
    node.restore()
    assert register(runner, node)["copy_cert"] == "success"
    assert RemovalHook(LOG).cleanup_pending() == {"cleaned": 1, "pending": 0}
    node.run("docker", "pull", f"{address}/login@{digest}")
    # even told to, del_cert takes away only what is of the old account
    hook = PlaybooksHook(LOG)
    variables = {"registry_account": "node-1", "registry_address": address}
    hook.run("del_cert", hook.nodes(), hook.nodes(), variables=variables).raise_failures()
    node.run("docker", "pull", f"{address}/login@{digest}")


def test_a_login_that_may_not_write_the_ca_is_told_so(
    runner: DagRunner, edge_fleet: EdgeFleet, clean_node: EdgeNode
) -> None:
    node = clean_node
    node.run("sh", "-c", "id edge || useradd -p '*' -m -s /bin/sh -G docker edge")
    node.run(
        "sh",
        "-c",
        "mkdir -p ~edge/.ssh; cp /edge/authorized_keys ~edge/.ssh/; chown -R edge ~edge; chmod 700 ~edge/.ssh",
    )
    FleetHook(LOG).register({"name": node.name, "host": node.address, "user": "edge"})
    with pytest.raises(PlaybookFailed, match="no right to write /etc/docker/certs.d/.*: let the login use sudo"):
        LoginsHook(LOG, PlaybooksHook(LOG)).copy(node.name)
    # where an administrator has put the CA there, the rest needs no right
    node.trust(edge_fleet.registry, log_in=False)
    assert LoginsHook(LOG, PlaybooksHook(LOG)).copy(node.name) is None
    assert node.run("stat", "-c", "%a %U", "/home/edge/.docker/config.json").split() == ["600", "edge"]
    with pytest.raises(PlaybookFailed, match="no right to remove a CA"):
        RemovalHook(LOG).remove(node.name, force=False)
    assert rows("SELECT status FROM nodes") == [("pending_cleanup",)]


def test_without_an_engine_the_registration_stands(
    runner: DagRunner, edge_fleet: EdgeFleet, clean_node: EdgeNode
) -> None:
    node = clean_node
    node.kill_engine()
    try:
        outcome = register(runner, node)
    finally:
        node.start_engine()
    assert outcome == {"register": "success", "locate": "success", "copy_cert": "skipped"}
    assert "node-1" not in accounts(edge_fleet)
