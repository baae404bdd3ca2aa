"""Containers that run on: each line is stored once, over restarts of container, engine, node and task."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from sqlalchemy import Engine

from evc.engine.client import connect
from evc.fleet.containers import deployed_container
from evc.fleet.images import Image
from evc.inference.continuous import Bounds
from tests.inference.nodes import (
    collect,
    counting,
    labels,
    registered,
    run_rows,
    start_collecting,
    watcher,
)
from tests.rollout.nodes import Images, session_to
from tests.servers.edge import EdgeFleet
from tests.servers.edge_node import EdgeNode

pytestmark = [pytest.mark.fleet, pytest.mark.xdist_group("fleet")]

# goes on where it was, as a camera's clock would: the number outlives the container's process
COUNTS_ON = """[ -e /n ] || echo 0 >/n; read i </n
trap 'exit 0' TERM
while :; do echo '{"kind":"person","label":"'$i'"}'; i=$((i+1)); echo $i >/n; sleep 0.02 & wait $!; done"""


def deploy(node: EdgeNode, images: Images, image: Image) -> str:
    """Make and start the container of a continuous model, as a roll-out does; returns its id."""
    made = deployed_container(watcher(mode="continuous", stop_grace_s=2), image, images.registry, "1")

    async def main() -> str:
        async with session_to(node) as session, connect(session) as engine:
            identity = await engine.create(made.name, made.body)
            await engine.start(identity)
            return identity

    node.run("docker", "pull", "-q", image.reference(images.registry))
    return asyncio.run(main())


@pytest.fixture
def images(edge_fleet: EdgeFleet) -> Images:
    return Images(edge_fleet)


@pytest.fixture
def nodes(edge_nodes: list[EdgeNode], edge_fleet: EdgeFleet) -> list[EdgeNode]:
    for node in edge_nodes:
        node.trust(edge_fleet.registry)
    return edge_nodes


@pytest.fixture
def node(nodes: list[EdgeNode]) -> EdgeNode:
    return nodes[0]


def lines_of(node: EdgeNode, container: str) -> int:
    return int(node.run("sh", "-c", f"docker logs {container} | wc -l"))


def until_said(node: EdgeNode, container: str, count: int, timeout_s: float = 60) -> None:
    """Wait until a container has printed ``count`` lines."""
    deadline = time.monotonic() + timeout_s
    while lines_of(node, container) < count:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def until_more(node: EdgeNode, container: str, count: int = 10) -> None:
    until_said(node, container, lines_of(node, container) + count)


def check_counts_on(database: Engine, node: EdgeNode, container: str) -> int:
    """Stop the container, read the rest, and return how many lines there are: each number once, none left out."""
    node.run("docker", "stop", container)
    while collect(database, node).behind:
        pass
    found = labels(database)
    said = node.run("docker", "logs", container).splitlines()
    assert len(found) == len(said)
    assert found == [line.split('"')[7] for line in said]
    return len(found)


def test_new_lines_of_each_round(engine: Engine, node: EdgeNode, images: Images) -> None:
    registered(engine, node)
    container = deploy(node, images, images.push(COUNTS_ON))
    counts = []
    for _ in range(4):
        until_more(node, container)
        done = collect(engine, node)
        counts.append(done.lines)
        assert done.containers == 1
    assert all(counts)
    total = check_counts_on(engine, node, container)
    run = run_rows(engine)[0]
    assert (run["run_id"], run["mode"], run["lines"], run["results"]) == (container, "continuous", total, total)
    assert (run["status"], run["exit_code"]) == ("ended", 0)
    assert collect(engine, node).lines == 0


def restart_container(node: EdgeNode, container: str) -> None:
    node.run("docker", "restart", container)


def kill_container(node: EdgeNode, container: str) -> None:
    node.run("docker", "kill", container)
    node.run("docker", "start", container)


def kill_engine(node: EdgeNode, container: str) -> None:
    node.kill_engine()
    node.start_engine()
    node.run("docker", "start", container)  # an engine that starts after a crash ends what ran on, with SIGTERM


def restart_node(node: EdgeNode, container: str) -> None:
    node.restart()


def pull_the_plug(node: EdgeNode, container: str) -> None:
    node.power_off()
    node.start()


@pytest.mark.parametrize("restart", [restart_container, kill_container, kill_engine, restart_node, pull_the_plug])
def test_over_restarts_of_container_engine_and_node(
    sqlite_engine: Engine, node: EdgeNode, images: Images, restart: Callable[[EdgeNode, str], None]
) -> None:
    registered(sqlite_engine, node)
    container = deploy(node, images, images.push(COUNTS_ON))
    until_more(node, container)
    assert collect(sqlite_engine, node).lines
    until_more(node, container)
    restart(node, container)
    until_more(node, container)
    assert collect(sqlite_engine, node).lines
    check_counts_on(sqlite_engine, node, container)


def test_over_kills_of_the_task(engine: Engine, node: EdgeNode, images: Images) -> None:
    registered(engine, node)
    container = deploy(node, images, images.push(COUNTS_ON.replace("sleep 0.02 & wait $!", ":")))
    deadline = time.monotonic() + 12
    delay_s = 0.6
    while time.monotonic() < deadline:
        process = start_collecting(engine, node)
        time.sleep(delay_s)
        process.kill()
        process.join()
        delay_s += 0.3
    assert check_counts_on(engine, node, container) > 100


def test_two_rounds_at_once_store_nothing_twice(engine: Engine, node: EdgeNode, images: Images) -> None:
    registered(engine, node)
    container = deploy(node, images, images.push(COUNTS_ON))
    until_more(node, container)
    for _ in range(3):
        with ExitStack() as stack:
            for process in [start_collecting(engine, node) for _ in range(2)]:
                stack.callback(process.join, 60)
    check_counts_on(engine, node, container)


def test_a_container_that_was_replaced_is_read_to_its_end(
    sqlite_engine: Engine, node: EdgeNode, images: Images
) -> None:
    registered(sqlite_engine, node)
    first = deploy(node, images, images.push(COUNTS_ON))
    collect(sqlite_engine, node)
    until_more(node, first)
    node.run("docker", "stop", first)
    node.run("docker", "rename", first, "previous")
    second = deploy(node, images, images.push(counting(50, then="sleep 1000")))
    until_said(node, second, 50)
    assert collect(sqlite_engine, node).containers == 2
    old, new = run_rows(sqlite_engine)
    assert (old["run_id"], old["status"], new["run_id"], new["status"]) == (first, "ended", second, "running")
    assert old["digest"] != new["digest"]
    assert len(labels(sqlite_engine, old["id"])) == len(node.run("docker", "logs", first).splitlines())
    assert labels(sqlite_engine, new["id"]) == [str(number) for number in range(50)]
    node.run("docker", "start", first)  # a roll-back
    until_more(node, first)
    assert collect(sqlite_engine, node).lines
    assert run_rows(sqlite_engine)[0]["status"] == "running"
    node.run("docker", "rm", "-f", first)
    collect(sqlite_engine, node)
    gone = run_rows(sqlite_engine)[0]
    assert (gone["status"], gone["message"]) == ("ended", "its container is gone")


def test_a_talkative_container_keeps_nobody_waiting(
    sqlite_engine: Engine, nodes: list[EdgeNode], images: Images
) -> None:
    registered(sqlite_engine, *nodes)
    loud = deploy(nodes[0], images, images.push(counting(20_000, then="sleep 1000")))
    for node in nodes[1:]:
        until_said(node, deploy(node, images, images.push(counting(10, then="sleep 1000"))), 10)
    until_said(nodes[0], loud, 20_000)
    done = collect(sqlite_engine, *nodes, bounds=Bounds(lines=6_000))
    assert done.behind == ["edge-1/reid"]
    by_run = {row["run_id"]: row["lines"] for row in run_rows(sqlite_engine)}
    assert 6_000 <= by_run.pop(loud) < 12_000
    assert list(by_run.values()) == [10, 10]
    for _ in range(5):
        if not collect(sqlite_engine, *nodes, bounds=Bounds(lines=6_000)).behind:
            break
    loud_id = next(row["id"] for row in run_rows(sqlite_engine) if row["run_id"] == loud)
    assert labels(sqlite_engine, loud_id) == [str(number) for number in range(20_000)]


def test_a_silent_node_is_told_and_read_when_it_is_back(
    sqlite_engine: Engine, nodes: list[EdgeNode], images: Images
) -> None:
    registered(sqlite_engine, *nodes[:2])
    container = deploy(nodes[0], images, images.push(COUNTS_ON))
    deploy(nodes[1], images, images.push(counting(10, then="sleep 1000")))
    collect(sqlite_engine, *nodes[:2])
    nodes[0].cut(fast=True)
    try:
        done = collect(sqlite_engine, *nodes[:2])
    finally:
        nodes[0].restore()
    assert list(done.silent) == ["edge-1"]
    assert done.containers == 1
    nodes[0].run("docker", "stop", container)
    collect(sqlite_engine, *nodes[:2])
    said = nodes[0].run("docker", "logs", container).splitlines()
    identity = next(row["id"] for row in run_rows(sqlite_engine) if row["run_id"] == container)
    assert len(labels(sqlite_engine, identity)) == len(said)


SAYS_MORE = counting(100, then="while ! [ -e /go ]; do sleep 0.05; done\n" + counting(200).replace("i=0", "i=100"))


def test_over_a_clock_that_was_set_back(
    sqlite_engine: Engine, node: EdgeNode, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(sqlite_engine, node)
    container = deploy(node, images, images.push(f"{SAYS_MORE}\nsleep 1000"))
    until_said(node, container, 100)
    assert collect(sqlite_engine, node).lines == 100
    node.run("docker", "exec", container, "sh", "-c", ": >/go")
    until_said(node, container, 200)
    path = f"/var/lib/docker/containers/{container}/{container}-json.log"
    script = f"""import json
lines = [json.loads(line) for line in open({path!r})]
for it in lines[100:]:
    it["time"] = "2020" + it["time"][4:]
open({path!r}, "w").write("".join(json.dumps(it) + chr(10) for it in lines))"""
    node.run("python3", "-c", script)  # the engine shares this machine's clock, so its log tells of another
    assert collect(sqlite_engine, node).lines == 0

    async def behind(engine: object) -> float:
        return -180_000_000.0

    monkeypatch.setattr("evc.inference.continuous._seconds_ahead", behind)
    assert collect(sqlite_engine, node).lines == 100
    assert collect(sqlite_engine, node).lines == 0
    assert labels(sqlite_engine) == [str(number) for number in range(200)]
