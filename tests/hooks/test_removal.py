"""Nodes leave the fleet: what needs no engine, on a real sshd."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from evc.errors import InputError, PlaybookFailed
from evc.fleet.playbooks import HostResult, Report, Status
from evc.hooks.fleet import FleetHook
from evc.hooks.removal import RemovalHook
from evc.store.nodes import node_rows
from tests.servers.airflow import DagRunner
from tests.servers.sshd import SshServer, free_port

LOG = logging.getLogger("tests.hooks.removal")


@pytest.fixture
def fleet(dag_runner: DagRunner, sshd: SshServer) -> FleetHook:
    dag_runner.connection("evc_nodes", conn_type="ssh", login=sshd.user, extra={"key_file": str(sshd.key_file)})
    dag_runner.setting("nominatim_url", "")
    dag_runner.setting("connect_timeout_s", "2")
    return FleetHook(LOG)


def rows(hook: FleetHook, query: str) -> list[Any]:
    with hook.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def given(server: SshServer, **more: Any) -> dict[str, Any]:
    return {"name": "edge-1", "host": "127.0.0.1", "port": server.port, **more}


def test_removal_keeps_history_and_frees_name_and_address(fleet: FleetHook, sshd: SshServer) -> None:
    fleet.register(given(sshd))
    assert RemovalHook(LOG).remove("edge-1", force=False) == 1
    assert RemovalHook(LOG).remove("edge-1", force=False) == 1, "a retry finds it removed"
    assert rows(fleet, "SELECT count(*) FROM node_events WHERE kind = 'removed'") == [(1,)]
    assert rows(fleet, "SELECT status, removed_ts IS NOT NULL FROM nodes") == [("removed", 1)]
    assert "edge-1" not in (fleet.folder / "hosts.ini").read_text()
    assert rows(fleet, "SELECT count(*) FROM node_samples") == [(1,)]
    assert fleet.register(given(sshd)) == {"name": "edge-1", "id": 2, "created": True}
    with pytest.raises(InputError, match="nosuch"):
        RemovalHook(LOG).remove("nosuch", force=False)


def test_a_jump_node_is_removed_only_by_force(fleet: FleetHook, sshd: SshServer) -> None:
    fleet.register(given(sshd, name="gate"))
    fleet.register(given(sshd, name="inner", jump_node="gate"))
    with pytest.raises(InputError, match='"gate" is the jump node of inner'):
        RemovalHook(LOG).remove("gate", force=False)
    RemovalHook(LOG).remove("gate", force=True)
    assert [node.name for node in fleet.nodes()] == ["inner"]
    assert "inner" in (fleet.folder / "hosts.ini").read_text()


def test_a_node_that_never_had_anything_of_ours_is_not_contacted(fleet: FleetHook, sshd: SshServer) -> None:
    fleet.register(given(sshd))
    with fleet.engine.begin() as connection:
        connection.execute(text("UPDATE nodes SET port = :port, engine_version = '20.10'"), {"port": free_port()})
    RemovalHook(LOG).remove("edge-1", force=False)
    assert rows(fleet, "SELECT status FROM nodes") == [("removed",)]


def make_dirty(fleet: FleetHook, port: int | None = None) -> None:
    """Let the node have had a container once; with a port: let it be away."""
    with fleet.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO inference_runs (run_id, node_id, model, digest, mode, status, started_ts, lines) "
                "VALUES ('r', 1, 'm', 'd', 'once', 'succeeded', 1, 0)"
            )
        )
        if port:
            connection.execute(text("UPDATE nodes SET port = :port"), {"port": port})


def test_one_that_is_away_is_pending_and_given_up_by_force(
    fleet: FleetHook, sshd: SshServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fleet.register(given(sshd))
    make_dirty(fleet, free_port())
    assert RemovalHook(LOG).remove("edge-1", force=False) == 1
    assert rows(fleet, "SELECT status, removed_ts IS NOT NULL FROM nodes") == [("pending_cleanup", 1)]
    ((message,),) = rows(fleet, "SELECT message FROM node_events WHERE kind = 'pending_cleanup'")
    assert "Connection refused" in message
    assert "edge-1" not in message
    assert "pending cleanup" in caplog.text
    assert fleet.nodes() == []
    assert RemovalHook(LOG).cleanup_pending() == {"cleaned": 0, "pending": 1}
    assert RemovalHook(LOG).remove("edge-1", force=True) == 1
    assert rows(fleet, "SELECT status FROM nodes") == [("removed",)]
    assert RemovalHook(LOG).cleanup_pending() == {"cleaned": 0, "pending": 0}
    assert rows(fleet, "SELECT message FROM node_events WHERE kind = 'removed'") == [
        ("given up: what EVC has put on it may still be there",)
    ]


def test_a_new_registration_of_the_same_machine_is_left_alone(fleet: FleetHook, sshd: SshServer) -> None:
    fleet.register(given(sshd))
    make_dirty(fleet, free_port())
    RemovalHook(LOG).remove("edge-1", force=False)
    with fleet.engine.begin() as connection:
        connection.execute(text("UPDATE nodes SET port = :port"), {"port": sshd.port})
    fleet.register(given(sshd))
    hook = RemovalHook(LOG)
    hook.playbooks.run = None  # type: ignore[assignment, method-assign]  # whoever calls it fails
    assert hook.cleanup_pending() == {"cleaned": 1, "pending": 0}
    assert rows(fleet, "SELECT id, status FROM nodes ORDER BY id") == [(1, "removed"), (2, "up")]


def test_another_machine_at_the_old_address_is_left_alone(fleet: FleetHook, sshd: SshServer, tmp_path: Path) -> None:
    fleet.register(given(sshd))
    make_dirty(fleet, free_port())
    RemovalHook(LOG).remove("edge-1", force=False)
    with fleet.engine.begin() as connection:
        other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJz0bJwcTtJ8xqXvRVqdNlDl8kKXo7Iu5rZlZPzRkHnF"
        connection.execute(text("UPDATE nodes SET port = :port, host_key = :key"), {"port": sshd.port, "key": other})
    fleet.register(given(sshd))
    hook = RemovalHook(LOG)
    hook.playbooks.run = None  # type: ignore[assignment, method-assign]  # whoever calls it fails
    assert hook.cleanup_pending() == {"cleaned": 0, "pending": 1}
    assert rows(fleet, "SELECT id, status FROM nodes ORDER BY id") == [(1, "pending_cleanup"), (2, "up")]


def test_a_registry_that_can_t_be_asked_keeps_a_node_that_has_an_account(
    fleet: FleetHook, sshd: SshServer, dag_runner: DagRunner
) -> None:
    dag_runner.connection(
        "evc_registry",
        conn_type="docker",
        host="127.0.0.1",
        port=1,
        login="a",
        password="b",  # noqa: S106
        extra={"pull_address": "127.0.0.1:2"},
    )
    fleet.register(given(sshd))
    with fleet.engine.begin() as connection:
        connection.execute(text("INSERT INTO node_events VALUES (1, 1, 'registry_login', 'info', 'x')"))
    with pytest.raises(InputError, match="registry folder"):
        RemovalHook(LOG).remove("edge-1", force=False)
    assert [node.name for node in fleet.nodes()] == ["edge-1"]


def test_one_that_answered_and_could_not_be_cleaned_is_asked_seldom(fleet: FleetHook, sshd: SshServer) -> None:
    fleet.register(given(sshd))
    make_dirty(fleet)
    hook = RemovalHook(LOG)

    def refuse(*_: Any, **__: Any) -> Report:
        return Report("del_cert", {"edge-1": HostResult("edge-1", Status.FAILED, False, "Remove the CA", "no right")})

    hook.playbooks.run = refuse  # type: ignore[method-assign]
    hook._remove_containers = _nothing  # type: ignore[method-assign, assignment]
    with pytest.raises(PlaybookFailed, match="^edge-1: removed, pending cleanup: .* Remove the CA: no right"):
        hook.remove("edge-1", force=False)
    assert rows(fleet, "SELECT status FROM nodes") == [("pending_cleanup",)]
    hook.playbooks.run = None  # type: ignore[assignment, method-assign]  # whoever calls it fails
    assert hook.cleanup_pending() == {"cleaned": 0, "pending": 1}


async def _nothing(*_: Any) -> dict[str, Exception]:
    return {}


def test_killed_between_leaving_and_cleaning_a_retry_goes_on(fleet: FleetHook, sshd: SshServer) -> None:
    fleet.register(given(sshd))
    make_dirty(fleet)
    hook = RemovalHook(LOG)

    def die(*_: Any) -> dict[str, Exception]:
        raise KeyboardInterrupt

    hook._clean = die  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        hook.remove("edge-1", force=False)
    assert rows(fleet, "SELECT status FROM nodes") == [("pending_cleanup",)]
    hook = RemovalHook(LOG)
    hook._clean = lambda *_: {}  # type: ignore[method-assign]
    assert hook.remove("edge-1", force=False) == 1
    assert rows(fleet, "SELECT status FROM nodes") == [("removed",)]


def test_what_it_should_run_goes_with_it_and_pending_nodes_are_listed(fleet: FleetHook, sshd: SshServer) -> None:
    fleet.register(given(sshd))
    with fleet.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO assignments (node_id, model, repository, digest, spec, ts, status) "
                "VALUES (1, 'm', 'm', 'd', '{}', 1, 'pending')"
            )
        )
        connection.execute(text("UPDATE nodes SET port = :port"), {"port": free_port()})
    RemovalHook(LOG).remove("edge-1", force=False)
    assert rows(fleet, "SELECT count(*) FROM assignments") == [(0,)]
    with fleet.engine.connect() as connection:
        assert node_rows(connection) == []
        assert [row["status"] for row in node_rows(connection, pending=True)] == ["pending_cleanup"]


def test_a_node_whose_answers_nobody_foresaw_keeps_no_other_from_being_cleaned(
    fleet: FleetHook, sshd: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = RemovalHook(LOG)
    nodes = [sshd.node("bad"), sshd.node("good", host="127.0.0.2")]

    async def clean(pool: object, node: Any, registered: object) -> None:
        if node.name == "bad":
            raise TypeError("'int' object is not subscriptable")

    monkeypatch.setattr(hook, "_remove_containers_of", clean)
    monkeypatch.setattr(hook, "_log_out", lambda nodes, registered: {})
    problems = hook._clean(nodes, {})
    assert {name: str(problem) for name, problem in problems.items()} == {"bad": "bad: error of EVC itself: TypeError"}
