"""Why there is no engine for the demo, and its registry's folder. An engine: tests/fleet/test_demo_scenario.py"""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import docker
import pytest
from docker.errors import APIError, NotFound

from demo import engine as demo_engine
from demo import up
from demo.engine import LABEL, LocalEngine, NoEngine, find_engine, prepare_registry, registry_folder, stop_registry
from demo.server import ADDRESS
from demo.state import DemoError, State
from evc.registry.folder import Wanted

# its ports are those of make demo
pytestmark = pytest.mark.xdist_group("demo_registry")


@pytest.fixture
def state(tmp_path: Path) -> State:
    state = State(tmp_path / "state")
    state.make_folders()
    return state


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("tcp://10.0.0.5:2376", "leads to tcp://..."),
        ("unix://", "names no absolute path"),
        ("unix://docker.sock", "names no absolute path"),
        ("/var/run/docker.sock", "names no absolute path"),
        ("me:password@10.0.0.5:2376", "names no absolute path"),
    ],
)
def test_an_engine_of_another_machine_is_none(monkeypatch: pytest.MonkeyPatch, host: str, said: str) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(NoEngine) as caught:
        find_engine()
    assert str(caught.value) == f"DOCKER_HOST {said}; the demo's nodes need an engine of this machine, unix:///..."


def test_where_nothing_answers_the_socket_and_the_reason_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(NoEngine, match=r"answers at .*/none\.sock: No such file or directory$"):
        find_engine()


@pytest.fixture
def broken_engine(tmp_path: Path) -> Iterator[Path]:
    """A socket that refuses whatever it is asked."""
    path = tmp_path / "broken.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def refuse() -> None:
            while True:
                try:
                    asker, _ = server.accept()
                except OSError:
                    return
                with asker:
                    if asker.recv(4096):  # a knock says nothing
                        asker.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 6\r\n\r\ngo off")

        threading.Thread(target=refuse, daemon=True).start()
        yield path
        server.shutdown(socket.SHUT_RDWR)


def test_what_is_no_engine_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch, broken_engine: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: "/usr/bin/docker")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{broken_engine}")
    with pytest.raises(NoEngine, match=r"^what answers at /.*/broken\.sock is no Docker Engine that works: .*go off"):
        find_engine()


def test_stopping_names_an_engine_that_does_not_do_it(state: State, broken_engine: Path) -> None:
    state.note_containers(str(broken_engine))
    with pytest.raises(
        DemoError, match=r"^the engine at /.*/broken\.sock does not remove the demo's registry: .*go off"
    ):
        stop_registry(state)


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
    state.note_containers(f"{tmp_path}/gone.sock")
    assert stop_registry(state) == 0


# -- an engine whose containers are sockets --------------------------------------------------------------------------


class _Containers:
    """Those of an engine. :ivar cannot: the face that does not start"""

    def __init__(self) -> None:
        self.all: dict[str, Any] = {}
        self.cannot = ""

    def get(self, name: str) -> Any:
        if name not in self.all:
            raise NotFound(name)
        return self.all[name]

    def run(self, image: str, command: list[str], *, name: str, labels: dict[str, str], **given: Any) -> None:
        config = Path(next(iter(given["volumes"])), command[1])
        if config.stem == self.cannot:
            raise APIError("no such file")
        port = int(config.read_text().partition(f'addr: "{ADDRESS}:')[2].partition('"')[0])
        server = socket.create_server((ADDRESS, port))

        def remove(*, force: bool) -> None:
            server.close()
            del self.all[name]

        self.all[name] = SimpleNamespace(status="running", labels=labels, remove=remove, end=server.close, port=port)

    def list(self, *, filters: dict[str, str], **_: Any) -> list[Any]:
        wanted = filters["label"].removeprefix(f"{LABEL}=")
        return [found for found in self.all.values() if found.labels[LABEL] == wanted]

    def die(self, name: str) -> None:
        self.all[name].end()
        self.all[name].status = "exited"


@pytest.fixture
def containers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[_Containers]:
    """Containers of the engine that the demo finds."""
    made = _Containers()
    client = cast("Any", SimpleNamespace(containers=made, images=SimpleNamespace(get=lambda name: name)))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "docker.sock"))
        server.listen(50)
        monkeypatch.setattr(docker, "DockerClient", lambda **_: client)
        monkeypatch.setattr(demo_engine, "_START_TIMEOUT_S", 1.0)
        monkeypatch.setattr(up, "find_engine", lambda: LocalEngine(str(tmp_path / "docker.sock"), client))
        yield made
    for container in made.all.values():
        container.end()


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> Callable[[State], None]:
    """Lets ``make demo`` find no engine for once."""

    def start_without(state: State) -> None:
        def find() -> LocalEngine:
            raise NoEngine("not today")

        with monkeypatch.context() as once:
            once.setattr(up, "find_engine", find)
            assert isinstance(up._find_engine(state), NoEngine)

    return start_without


def test_a_registry_that_does_not_start_is_no_registry_and_stops_whole(state: State, containers: _Containers) -> None:
    containers.cannot = "pull-only"
    found = up._find_engine(state)
    assert isinstance(found, NoEngine)
    assert str(found) == "the registry's pull-only face can't be started: no such file"
    assert state.engine_socket() is None
    assert len(containers.all) == 1
    assert stop_registry(state) == 1
    assert containers.all == {}


def test_a_registry_is_stopped_where_it_was_started(
    state: State, containers: _Containers, no_engine: Callable[[State], None]
) -> None:
    up._find_engine(state)
    no_engine(state)
    assert stop_registry(state) == 2
    assert containers.all == {}


def test_a_registry_whose_ports_have_changed_meanwhile_is_started_anew(
    state: State, containers: _Containers, no_engine: Callable[[State], None]
) -> None:
    up._find_engine(state)
    no_engine(state)  # what keeps its ports can't be told from a stranger then
    assert isinstance(up._find_engine(state), LocalEngine)
    ports = {face.port() for face in (registry_folder(state).read_write, registry_folder(state).pull_only)}
    assert {container.port for container in containers.all.values()} == ports


def test_a_face_that_has_ended_starts_again_on_its_port(state: State, containers: _Containers) -> None:
    up._find_engine(state)
    before = dict(containers.all)
    lost = next(name for name in before if name.endswith("pull-only"))
    containers.die(lost)
    assert isinstance(up._find_engine(state), LocalEngine)
    assert [name for name, container in containers.all.items() if container is not before[name]] == [lost]
    assert containers.all[lost].port == before[lost].port


def test_a_registry_of_a_folder_that_is_gone_is_started_anew(state: State, containers: _Containers) -> None:
    up._find_engine(state)
    before = list(containers.all.values())
    shutil.rmtree(state.folder)
    state.make_folders()
    assert isinstance(up._find_engine(state), LocalEngine)
    assert len(containers.all) == 2
    assert not [container for container in containers.all.values() if container in before]
