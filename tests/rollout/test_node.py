"""One node of a roll-out, on real engines and a real registry."""

from __future__ import annotations

import asyncio
import time

import pytest

from evc.engine.client import connect
from evc.errors import ContainerFailed
from evc.fleet.progress import Snapshot
from evc.rollout.containers import Running, running
from evc.rollout.node import Steps, Target, wanted_config, withdraw
from tests.rollout.nodes import RUNS, Images, containers, deploy, digests, inspect, quick_model, session_to
from tests.servers.edge import EdgeFleet
from tests.servers.edge_node import EdgeNode

pytestmark = [pytest.mark.fleet, pytest.mark.xdist_group("fleet")]


@pytest.fixture
def images(edge_fleet: EdgeFleet) -> Images:
    return Images(edge_fleet)


@pytest.fixture
def node(clean_node: EdgeNode, edge_fleet: EdgeFleet) -> EdgeNode:
    clean_node.trust(edge_fleet.registry)
    return clean_node


def seen(node: EdgeNode, name: str | None = None) -> list[Running]:
    async def main() -> list[Running]:
        async with session_to(node) as session, connect(session) as engine:
            return await running(engine, name)

    return asyncio.run(main())


def test_a_first_deployment_runs_as_model_yaml_says(node: EdgeNode, images: Images) -> None:
    image = images.push(size_mb=2)
    told: list[object] = []
    snapshots: list[Snapshot] = []
    steps = Steps(status=told.append, before_change=told.append, progress=snapshots.append)
    deployed = deploy(node, images.target(image, quick_model(environment={"A": "b c"})), steps)

    assert told == ["preflight", "pulling", None, "starting", "gate"]
    assert snapshots[-1].bytes_done == snapshots[-1].bytes_total == deployed.bytes_done > 2_000_000
    assert (deployed.changed, deployed.previous) == (True, None)
    details = inspect(node, deployed.container_id)
    assert details["State"]["Running"]
    assert details["Config"]["Image"] == image.reference(images.registry)
    assert "A=b c" in details["Config"]["Env"]
    host = details["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (32 * 1024**2, 32 * 1024**2, 500_000_000)
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
    (it,) = seen(node)
    assert (it.model, it.repository, it.digest, it.rollout) == ("reid", "reid", image.digest, "1")
    assert (it.is_right, it.state, it.health, it.config) == (True, "running", None, deployed.config)


def test_the_same_again_changes_nothing(node: EdgeNode, images: Images) -> None:
    target = images.target(images.push())
    first = deploy(node, target)
    told: list[object] = []
    again = deploy(node, target, Steps(status=told.append, before_change=told.append))
    assert (again.container_id, again.changed, told) == (first.container_id, False, [])
    assert again.config == wanted_config(target)


def test_a_new_version_replaces_the_old_one_and_keeps_its_image(node: EdgeNode, images: Images) -> None:
    first, second, third = images.push(), images.push(), images.push()
    other = Images(images.fleet, "other")
    deploy(node, other.target(other.push(), quick_model(name="other")))
    deploy(node, images.target(first))
    previous: list[Running | None] = []
    deployed = deploy(node, images.target(second), Steps(before_change=previous.append))
    assert [it.digest if it else None for it in previous] == [first.digest]
    assert deployed.previous == previous[0]
    assert containers(node) == [(second.digest, "running")]
    assert digests(node) == {first.digest, second.digest}

    deploy(node, images.target(third))
    assert containers(node) == [(third.digest, "running")]
    assert digests(node) == {second.digest, third.digest}
    assert len(containers(node, "other")) == len(digests(node, "other")) == 1


def test_another_model_yaml_replaces_the_container_of_the_same_image(node: EdgeNode, images: Images) -> None:
    image = images.push()
    first = deploy(node, images.target(image))
    second = deploy(node, images.target(image, quick_model(environment={"A": "1"})))
    assert first.container_id != second.container_id
    assert containers(node) == [(image.digest, "running")]


def test_back_to_the_previous_version_needs_no_registry(node: EdgeNode, images: Images) -> None:
    first, second = images.push(), images.push()
    deploy(node, images.target(first))
    deploy(node, images.target(second))
    images.fleet.registry.stop()
    try:
        deploy(node, images.target(first))
    finally:
        images.fleet.registry.start()
    assert containers(node) == [(first.digest, "running")]


# -- the health gate ---------------------------------------------------------------------------------------------------

CHECK = {"interval_s": 0.2, "timeout_s": 2.0, "retries": 2, "deadline_s": 20.0}


def fails(node: EdgeNode, target: Target) -> tuple[str, list[str]]:
    lines: list[str] = []
    with pytest.raises(ContainerFailed) as caught:
        deploy(node, target, Steps(log=lines.append))
    return str(caught.value), lines


def test_a_health_command_decides(node: EdgeNode, images: Images) -> None:
    image = images.push(f"(sleep 1; touch /ready) & {RUNS}")
    it = quick_model(health={**CHECK, "command": ["/bin/sh", "-c", "test -e /ready"], "retries": 20})
    deployed = deploy(node, images.target(image, it))
    assert deployed.health.startswith("healthy after")
    assert inspect(node, deployed.container_id)["State"]["Health"]["Status"] == "healthy"
    assert [(it.health, it.is_right) for it in seen(node)] == [("healthy", True)]


def test_an_unhealthy_version_gives_way_to_the_previous_one(node: EdgeNode, images: Images) -> None:
    good, bad = images.push(), images.push("echo cannot see anything >&2; " + RUNS)
    before = deploy(node, images.target(good))
    it = quick_model(health={**CHECK, "command": ["/bin/sh", "-c", "echo no camera; exit 4"]})
    words, lines = fails(node, images.target(bad, it))
    assert "is unhealthy: the last health check ended with 4 (no camera)" in words
    assert "last lines: cannot see anything" in words
    assert f"the previous container, {good.digest[:19]}, runs again" in words
    assert "\n" not in words
    assert "container: cannot see anything" in lines
    assert containers(node) == [(good.digest, "running")]
    assert seen(node)[0].container_id == before.container_id


def test_a_check_that_never_ends_is_waited_for_until_the_deadline(node: EdgeNode, images: Images) -> None:
    it = quick_model(health={**CHECK, "command": ["/bin/false"], "retries": 100, "deadline_s": 2.0})
    begin = time.monotonic()
    words, _ = fails(node, images.target(images.push(), it))
    assert "was not healthy within 2 s: the last health check ended with 1" in words
    assert time.monotonic() - begin < 20
    assert containers(node) == []


def test_a_version_that_dies_tells_its_exit_code_and_last_lines(node: EdgeNode, images: Images) -> None:
    words, _ = fails(node, images.target(images.push("echo one; printf 'two\\033[31m\\n'; sleep 0.1; exit 3")))
    assert "with exit code 3, not out of memory, last lines: one | two?[31m; there was none before it" in words
    assert containers(node) == []


def test_a_version_that_needs_more_memory_is_told_so(node: EdgeNode, images: Images) -> None:
    good = images.push()
    deploy(node, images.target(good))
    hungry = "exec dd if=/dev/zero of=/dev/null bs=300M count=1"
    it = quick_model(health={"stable_s": 10.0, "deadline_s": 20.0})
    words, _ = fails(node, images.target(images.push(hungry), it))
    assert "out of memory: raise resources.memory_bytes" in words
    assert "exit code 137" in words
    assert containers(node) == [(good.digest, "running")]


def test_a_container_that_can_t_start_gives_way_too(node: EdgeNode, images: Images) -> None:
    good = images.push()
    deploy(node, images.target(good))
    words, _ = fails(node, images.target(images.push(), quick_model(command=["/no/such/program"])))
    assert "/no/such/program" in words
    assert "runs again" in words
    assert containers(node) == [(good.digest, "running")]


def test_a_container_that_someone_removes_at_the_gate_is_missed(node: EdgeNode, images: Images) -> None:
    it = quick_model(health={"stable_s": 10.0, "deadline_s": 20.0})

    def remove(status: str) -> None:
        if status == "gate":
            with node.engine() as engine:
                for container in engine.containers.list(ignore_removed=True, all=True):
                    container.remove(force=True)

    with pytest.raises(ContainerFailed):
        deploy(node, images.target(images.push(), it), Steps(status=remove))
    assert containers(node) == []


# -- on demand ---------------------------------------------------------------------------------------------------------


def test_a_model_on_demand_is_tried_once_and_recorded(node: EdgeNode, images: Images) -> None:
    first, second = images.push("exit 9"), images.push("exit 9")
    it = quick_model(mode="on_demand", health={"command": ["/bin/true"]})
    assert deploy(node, images.target(first, it)).health.startswith("its health command succeeded")
    assert containers(node) == [(first.digest, "exited")]
    assert [(it.is_right, it.mode) for it in seen(node)] == [(True, "on_demand")]
    assert not deploy(node, images.target(first, it)).changed

    bad = quick_model(mode="on_demand", health={"command": ["/bin/sh", "-c", "echo no weights; exit 2"]})
    words, _ = fails(node, images.target(second, bad))
    assert "its health command failed" in words
    assert "exit code 2, not out of memory, last lines: no weights" in words
    assert f"{first.digest[:19]} stays deployed" in words
    assert containers(node) == [(first.digest, "exited")]

    deploy(node, images.target(second, quick_model(mode="on_demand")))
    assert containers(node) == [(second.digest, "created")]
    assert [it.is_right for it in seen(node)] == [True]


# -- what people and power cuts do -------------------------------------------------------------------------------------


@pytest.mark.parametrize("deed", ["stop", "kill", "pause", "remove"])
def test_what_someone_did_by_hand_is_put_right(node: EdgeNode, images: Images, deed: str) -> None:
    target = images.target(images.push())
    deployed = deploy(node, target)
    with node.engine() as engine:
        container = engine.containers.get(deployed.container_id)
        container.remove(force=True) if deed == "remove" else getattr(container, deed)()
    assert not any(it.is_right for it in seen(node))
    assert deploy(node, target).changed
    assert containers(node) == [(target.image.digest, "running")]
    assert [it.is_right for it in seen(node)] == [True]


def test_what_became_unhealthy_is_started_anew(node: EdgeNode, images: Images) -> None:
    it = quick_model(health={**CHECK, "command": ["/bin/sh", "-c", "test ! -e /broken"]})
    target = images.target(images.push(f"rm -f /broken; {RUNS}"), it)
    deployed = deploy(node, target)
    with node.engine() as engine:
        done = engine.containers.get(deployed.container_id).exec_run(["/bin/sh", "-c", ": > /broken"])
        assert done.exit_code == 0
    deadline = time.monotonic() + 60
    while seen(node)[0].is_right and time.monotonic() < deadline:
        time.sleep(0.2)
    assert [(it.health, it.is_right) for it in seen(node)] == [("unhealthy", False)]
    assert deploy(node, target).container_id == deployed.container_id
    assert [(it.health, it.is_right) for it in seen(node)] == [("healthy", True)]


def test_what_was_good_once_is_not_removed_when_it_fails_later(node: EdgeNode, images: Images) -> None:
    image = images.push("test ! -e /srv/broken || exit 5; " + RUNS)
    node.run("mkdir", "-p", "/srv/evc-test")
    it = quick_model(volumes=[{"source": "/srv/evc-test", "target": "/srv"}])
    target = images.target(image, it)
    deployed = deploy(node, target)
    node.run("touch", "/srv/evc-test/broken")
    with node.engine() as engine:
        engine.containers.get(deployed.container_id).stop()
    words, _ = fails(node, target)
    assert "it was good before" in words
    node.run("rm", "/srv/evc-test/broken")
    assert deploy(node, target).container_id == deployed.container_id


def test_containers_that_are_not_ours_are_left_alone(node: EdgeNode, images: Images) -> None:
    first = images.push(labels={"evc.model": "reid"})  # as a model's image bears it
    deploy(node, images.target(first))
    with node.engine() as engine:
        by_hand = engine.containers.run(first.reference(images.registry), detach=True, name="by-hand")
        second = images.push()
        deploy(node, images.target(second))
        by_hand.reload()
        assert by_hand.status == "running"
    assert [it.digest for it in seen(node)] == [second.digest]


def test_a_stranger_s_container_that_has_the_name_is_named(node: EdgeNode, images: Images) -> None:
    target = images.target(images.push())
    deployed = deploy(node, target)
    name = inspect(node, deployed.container_id)["Name"].lstrip("/")
    with node.engine() as engine:
        engine.containers.get(deployed.container_id).remove(force=True)
        engine.containers.create(target.reference, name=f"{name}-new")
    words, _ = fails(node, target)
    assert f"docker rm {name}-new on the node" in words


def test_a_continuous_model_runs_again_when_its_node_was_switched_off(node: EdgeNode, images: Images) -> None:
    target = images.target(images.push())
    deployed = deploy(node, target)
    node.power_off()
    node.start()
    assert [(it.container_id, it.is_right) for it in seen(node)] == [(deployed.container_id, True)]
    assert not deploy(node, target).changed


def test_withdrawing_takes_every_container_of_that_model_only(node: EdgeNode, images: Images) -> None:
    other = Images(images.fleet, "other")
    deploy(node, other.target(other.push(), quick_model(name="other")))
    deploy(node, images.target(images.push()))

    async def main() -> tuple[int, int]:
        async with session_to(node) as session, connect(session) as engine:
            return await withdraw(engine, "reid"), await withdraw(engine, "reid")

    assert asyncio.run(main()) == (1, 0)
    assert (len(containers(node)), len(containers(node, "other"))) == (0, 1)
