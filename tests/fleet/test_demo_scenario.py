"""``make demo`` where there is a Docker Engine: a real one, a registry in it, a scenario built, rolled out and run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from demo.engine import registry_folder
from demo.state import State
from tests.servers.demo import run_demo
from tests.servers.demo_engine import BASE_IMAGE, load_stand_ins, running_demo_engine
from tests.servers.stack_images import REGISTRY_IMAGE

pytestmark = [pytest.mark.fleet, pytest.mark.xdist_group("demo_registry")]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, docker.DockerClient]]:
    if os.geteuid() != 0:
        pytest.skip("an engine needs root")
    folder = tmp_path_factory.mktemp("engine")
    with running_demo_engine(folder) as client:
        yield folder / "docker.sock", client


def _run(state: State, socket: Path, command: str, **more: str) -> str:
    return run_demo(state, command, DOCKER_HOST=f"unix://{socket}", **more)


def _pictures(printed: str) -> dict[str, list[str]]:
    lines = (line.split() for line in printed.splitlines())
    return {words[0]: words[1:] for words in lines if words and words[0].startswith("day-")}


def test_a_scenario_is_shown_once_images_can_be_had(engine: tuple[Path, docker.DockerClient], tmp_path: Path) -> None:
    socket, client = engine
    state = State(tmp_path / "state 상태")
    images = {"EVC_REGISTRY_IMAGE": REGISTRY_IMAGE, "EVC_BASE_IMAGE": BASE_IMAGE}
    try:
        # an engine without images, and nowhere to get them: the nodes are there all the same
        without = _run(state, socket, "up", EVC_REGISTRY_IMAGE="127.0.0.1:1/registry:2")
        assert "no scenario is shown" in without
        assert "image 127.0.0.1:1/registry:2 can't be pulled" in without
        assert re.search(r"^demo-1 .* up ", without, re.MULTILINE)

        load_stand_ins(client)
        printed = _run(state, socket, "up", **images)
        assert "a login at the registry for demo-1" in printed
        pictures = _pictures(printed)
        assert sorted(pictures) == [f"day-{day}.png" for day in range(1, 7)]
        covers = [float(pictures[f"day-{day}.png"][0].rstrip("%")) for day in range(1, 7)]
        assert covers == sorted(covers)
        assert 1 < covers[0] < 5
        assert 15 < covers[-1] < 40
        assert [pictures[f"day-{day}.png"][-1] for day in (1, 6)] == ["green", "discoloured"]

        again = _run(state, socket, "up", **images)
        assert "a login at the registry" not in again
        assert _pictures(again) == pictures

        # nothing of it lies in the user's own home or in the engine's settings
        address = f"127.0.0.1:{registry_folder(state).pull_only.port()}"
        assert address in (state.home("demo-1") / ".docker" / "config.json").read_text()
        assert not Path("/etc/docker/certs.d", address).exists()
        assert len(client.containers.list()) == 2
    finally:
        stopped = _run(state, socket, "down")
    assert re.match(r"stopped \d+ processes and 2 containers; ", stopped)
    assert client.containers.list() == []
