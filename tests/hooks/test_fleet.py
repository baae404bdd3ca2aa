"""What operators do, on a real sshd and the embedded database."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from evc.errors import CredentialsError, HostKeyChanged, InputError, LoginRefused, NodeUnreachable
from evc.fleet.nodes import Node
from evc.hooks.fleet import FleetHook
from evc.store.nodes import store_node
from evc.sweep.run import Shard
from tests.servers.airflow import DagRunner
from tests.servers.sshd import SshServer, free_port, running_sshd


@pytest.fixture
def hook(dag_runner: DagRunner, sshd: SshServer) -> FleetHook:
    dag_runner.connection("evc_nodes", conn_type="ssh", login=sshd.user, extra={"key_file": str(sshd.key_file)})
    dag_runner.setting("nominatim_url", "")
    dag_runner.setting("connect_timeout_s", "2")
    return FleetHook(logging.getLogger("tests.hooks.fleet"))


def rows(hook: FleetHook, query: str) -> list[Any]:
    with hook.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def given(server: SshServer, **more: Any) -> dict[str, Any]:
    return {"name": "edge-1", "host": "127.0.0.1", "port": server.port, **more}


def test_registering_stores_node_facts_and_first_sample(hook: FleetHook, sshd: SshServer) -> None:
    assert hook.register(given(sshd, groups=["farm"])) == {"name": "edge-1", "id": 1, "created": True}
    ((status, host_key, arch, kernel),) = rows(hook, "SELECT status, host_key, arch, kernel FROM nodes")
    assert (status, host_key) == ("up", sshd.host_key)
    assert (arch, kernel) == (os.uname().machine, os.uname().release)
    assert rows(hook, "SELECT up, memory_total_bytes > 0 FROM node_samples") == [(1, 1)]
    assert rows(hook, "SELECT kind FROM node_events ORDER BY kind") == [("host_key_pinned",), ("up",)]
    assert "edge-1" in (hook.folder / "hosts.ini").read_text()


def test_registering_the_same_again_renews_it_and_doubles_nothing(hook: FleetHook, sshd: SshServer) -> None:
    hook.register(given(sshd))
    assert hook.register(given(sshd, groups=["farm"], labels={"site": "수원"})) == {
        "name": "edge-1",
        "id": 1,
        "created": False,
    }
    assert len(hook.nodes()) == 1
    assert hook.nodes()[0].groups == ("farm",)


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"host": "127.0.0.2"}, 'name: "edge-1" is registered at 127.0.0.1 port'),
        ({"name": "edge-2"}, 'is registered as "edge-1"'),
        ({"name": "edge-2", "jump_node": "gone"}, '"gone" is not a registered node'),
        ({"name": "a b"}, "name: "),
        ({"colour": "red"}, '"colour": is not known'),
    ],
)
def test_what_is_refused_is_not_contacted_and_not_stored(
    hook: FleetHook, sshd: SshServer, change: dict[str, Any], wrong: str
) -> None:
    hook.register(given(sshd))
    with pytest.raises(InputError, match=wrong):
        hook.register({**given(sshd), **change})
    assert rows(hook, "SELECT count(*) FROM nodes") == [(1,)]


def test_a_node_that_does_not_answer_is_not_stored(hook: FleetHook, sshd: SshServer, tmp_path: Path) -> None:
    with pytest.raises(NodeUnreachable):
        hook.register({"name": "edge-1", "host": "127.0.0.1", "port": free_port()})
    with pytest.raises(LoginRefused):
        hook.register(given(sshd, user="nosuchuser"))
    with running_sshd(tmp_path / "other") as other, pytest.raises(HostKeyChanged):
        hook.register(given(sshd, host_key=other.host_key))
    assert hook.nodes() == []


def test_a_changed_host_key_is_an_event_and_only_the_new_key_given_by_hand_replaces_it(
    hook: FleetHook, tmp_path: Path, dag_runner: DagRunner
) -> None:
    with running_sshd(tmp_path / "own") as server:
        dag_runner.connection("own", conn_type="ssh", login=server.user, extra={"key_file": str(server.key_file)})
        hook.register(given(server, conn_id="own"))
        first = server.host_key
        server.stop()
        server.renew_host_key()
        server.start()
        with pytest.raises(HostKeyChanged):
            hook.register(given(server, conn_id="own"))
        ((message,),) = rows(hook, "SELECT message FROM node_events WHERE kind = 'host_key_changed'")
        assert message.startswith("host key changed: pinned SHA256:")
        assert rows(hook, "SELECT host_key FROM nodes") == [(first,)]
        hook.register(given(server, conn_id="own", host_key=server.host_key))
        assert rows(hook, "SELECT host_key FROM nodes") == [(server.host_key,)]
        assert rows(hook, "SELECT count(*) FROM node_events WHERE kind = 'host_key_replaced'") == [(1,)]


def test_a_key_that_a_sweep_pinned_meanwhile_is_not_replaced(hook: FleetHook, sshd: SshServer, tmp_path: Path) -> None:
    with running_sshd(tmp_path / "other") as other:
        contact = hook._contact

        def slow_contact(node: Node, known: Node | None, registered: Mapping[str, Node]) -> Any:
            outcome = contact(node, known, registered)
            with hook.engine.begin() as connection:
                store_node(connection, replace(node, host_key=other.host_key), 1_000_000_000)
            return outcome

        hook._contact = slow_contact  # type: ignore[method-assign]
        with pytest.raises(HostKeyChanged):
            hook.register(given(sshd))
        assert rows(hook, "SELECT host_key FROM nodes") == [(other.host_key,)]


def test_an_inventory_is_imported_once_and_swept_then(hook: FleetHook, sshd: SshServer, tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.ini"
    inventory.write_text(
        f"[farm]\ncam-[1:2] ansible_port={sshd.port}\n[farm:vars]\nsite=suwon\n"
        "[gates]\nbad/name ansible_host=10.0.0.1\n"
        "[all:vars]\n"
    )
    (tmp_path / "host_vars").mkdir()
    for n in (1, 2):
        (tmp_path / "host_vars" / f"cam-{n}").write_text(f"ansible_host: 127.0.0.{n}\n")
    counts = hook.import_inventory(str(inventory))
    assert (counts["added"], counts["unchanged"]) == (2, 0)
    assert hook.import_inventory(str(inventory))["unchanged"] == 2
    assert rows(hook, "SELECT status, host_key FROM nodes") == [("unknown", None), ("unknown", None)]
    report = hook.sweep("run", Shard(), None, 0, 1)
    # cam-2 is at an address at which this sshd does not listen
    assert (report.nodes_up, report.nodes_down) == (1, 1)
    assert rows(hook, "SELECT host_key FROM nodes ORDER BY name") == [(sshd.host_key,), (None,)]
    assert sshd.host_key in (hook.folder / "hosts.ini.known_hosts").read_text()


def test_a_one_off_run_that_is_tried_again_does_only_what_remains(hook: FleetHook, sshd: SshServer) -> None:
    hook.register(given(sshd))
    assert hook.sweep("once", Shard(), None, 0, 1).sweeps == 1
    assert hook.sweep("once", Shard(), None, 0, 2).sweeps == 1
    assert hook.sweep("once", Shard(), None, 0, 2).sweeps == 0
    assert rows(hook, "SELECT count(*) FROM sweeps") == [(2,)]


@pytest.fixture
def unreadable_key(dag_runner: DagRunner, tmp_path: Path) -> Path:
    key = tmp_path / "id"
    key.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nTOPSECRET\n-----END OPENSSH PRIVATE KEY-----\n")
    dag_runner.connection("evc_nodes", conn_type="ssh", login="edge", extra={"key_file": str(key)})
    return key


def test_an_unreadable_key_names_connection_and_file_and_nothing_secret(
    unreadable_key: Path, dag_runner: DagRunner
) -> None:
    hook = FleetHook(logging.getLogger("tests.hooks.fleet"))
    with pytest.raises(CredentialsError) as caught:
        hook.register({"name": "edge-1", "host": "127.0.0.1"})
    assert f"connection evc_nodes: key_file {unreadable_key}: not a private key" in str(caught.value)
    assert "TOPSECRET" not in str(caught.value)
