"""The one operator of all playbooks, on a real sshd."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from evc.operators.run_playbook import RunPlaybookOperator
from tests.servers.airflow import DagRunner
from tests.servers.sshd import SshServer, free_port


@pytest.fixture
def playbooks(dag_runner: DagRunner, sshd: SshServer, tmp_path: Path) -> Path:
    """The folder of playbooks; two nodes are registered, one of them does not answer."""
    dag_runner.connection("evc_nodes", conn_type="ssh", login=sshd.user, extra={"key_file": str(sshd.key_file)})
    dag_runner.setting("connect_timeout_s", "2")
    dag_runner.setting("playbooks_folder", str(tmp_path))
    hosts = f"[farm]\nhere ansible_host=127.0.0.1 ansible_port={sshd.port}\naway ansible_host=127.0.0.1"
    inventory = tmp_path / "hosts.ini"
    inventory.write_text(f"{hosts} ansible_port={free_port()}\n[farm:vars]\nevc_host_key='{sshd.host_key}'\n")
    import logging

    from evc.hooks.fleet import FleetHook

    FleetHook(logging.getLogger("tests.operators")).import_inventory(str(inventory))
    return tmp_path


def write(folder: Path, command: str) -> None:
    task = {"name": "do it", "ansible.builtin.shell": command}
    (folder / "it.yaml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))


def operator(**more: Any) -> RunPlaybookOperator:
    return RunPlaybookOperator(task_id="it", playbook="it", **more)


def test_chosen_nodes_and_their_results(playbooks: Path) -> None:
    write(playbooks, "test {{ word }} = right")
    assert operator(nodes=["here"], variables={"word": "right"}).execute({}) == {"here": "ok"}
    with pytest.raises(AirflowException, match=r"it: here: FAILED: do it: non-zero return code"):
        operator(nodes="here", variables={"word": "wrong"}).execute({})


def test_who_is_not_reached_fails_the_task_only_if_that_is_wanted(playbooks: Path) -> None:
    write(playbooks, "true")
    with pytest.raises(AirflowException, match="it: away: unreachable: do it: .*Connection refused"):
        operator(groups=["farm"]).execute({})
    outcome = operator(groups=["farm"], unreachable_fails=False).execute({})
    assert outcome == {"away": "unreachable", "here": "ok"}


@pytest.mark.parametrize("wrong", [{"nodes": ["nosuch"]}, {"groups": ["nosuch"]}])
def test_an_unknown_node_or_group_is_final(playbooks: Path, wrong: dict[str, Any]) -> None:
    write(playbooks, "true")
    with pytest.raises(AirflowFailException, match="nosuch"):
        operator(**wrong).execute({})


def test_an_unknown_playbook_is_final(playbooks: Path) -> None:
    with pytest.raises(AirflowFailException, match='playbook: "nosuch" is not one'):
        RunPlaybookOperator(task_id="it", playbook="nosuch").execute({})


def test_a_cancel_ends_it_at_once(playbooks: Path) -> None:
    started = playbooks / "started"
    write(playbooks, f"touch {started}; sleep 300")
    task = operator(nodes=["here"])
    raised: list[Exception] = []

    def body() -> None:
        try:
            task.execute({})
        except AirflowException as error:
            raised.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    deadline = time.monotonic() + 120
    while not started.exists():
        assert thread.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    task.on_kill()
    thread.join(30)
    assert not thread.is_alive()
    assert [str(error) for error in raised] == ["it: stopped before its end"]
