"""Why there is no engine for the demo, and its registry's folder. An engine: tests/fleet/test_demo_scenario.py"""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from demo.engine import NoEngine, find_engine, prepare_registry, registry_folder, stop_registry
from demo.server import ADDRESS
from demo.state import State
from evc.registry.folder import Wanted


@pytest.fixture
def state(tmp_path: Path) -> State:
    state = State(tmp_path / "state")
    state.make_folders()
    return state


def test_an_engine_of_another_machine_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.5:2376")
    with pytest.raises(NoEngine, match=r"DOCKER_HOST leads to tcp://\.\.\.; .* unix://"):
        find_engine()


def test_where_nothing_answers_the_socket_and_the_reason_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(NoEngine, match=r"answers at .*/none\.sock: No such file or directory$"):
        find_engine()


def test_a_registry_is_made_once_for_loopback_alone(state: State) -> None:
    assert prepare_registry(state, None)
    folder = registry_folder(state)
    connection = folder.connection()
    assert connection
    assert connection["host"] == ADDRESS
    for face in (folder.read_write, folder.pull_only):
        assert f'addr: "{ADDRESS}:{face.port()}"' in face.config_file.read_text()
    assert not prepare_registry(state, None)
    assert folder.connection() == connection


def test_ports_that_are_taken_are_left_for_others_and_stay_on_loopback(state: State) -> None:
    prepare_registry(state, None)
    folder = registry_folder(state)
    before = folder.read_write.port()
    assert before
    with socket.create_server((ADDRESS, before)):
        assert prepare_registry(state, None)
    assert folder.read_write.port() not in {None, before}
    assert f'addr: "{ADDRESS}:{folder.read_write.port()}"' in folder.read_write.config_file.read_text()


def test_a_registry_of_the_users_own_is_left_alone(state: State) -> None:
    folder = registry_folder(state)
    folder.init(Wanted(names=["10.0.0.5"], port=5000, pull_port=5001))
    before = {path.name: path.read_bytes() for path in folder.path.iterdir() if path.is_file()}
    assert not prepare_registry(state, None)
    assert {path.name: path.read_bytes() for path in folder.path.iterdir() if path.is_file()} == before


def test_stopping_what_never_ran_is_nothing(state: State, tmp_path: Path) -> None:
    assert stop_registry(state) == 0
    state.note_engine(f"{tmp_path}/gone.sock")
    assert stop_registry(state) == 0
