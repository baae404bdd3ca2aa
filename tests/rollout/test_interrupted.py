"""A deployment that is interrupted anywhere and tried again ends as one that was not."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from evc.engine.account import node_auth
from evc.engine.client import Engine, connect
from evc.engine.pull import pull_image
from evc.errors import ConnectionCut, ContainerFailed, EngineAway, NodeError
from evc.rollout.node import Steps, Target, deploy_node
from tests.rollout.nodes import RUNS, Images, containers, deploy, digests, quick_model, session_to
from tests.servers.edge import EdgeFleet
from tests.servers.edge_node import EdgeNode

pytestmark = [pytest.mark.fleet, pytest.mark.xdist_group("fleet")]

CHANGES = ("create", "start", "stop", "rename", "remove", "remove_image")
"""What changes a node, beside a pull: a try is killed before each call of these."""
UNHEALTHY = {"command": ["/bin/false"], "interval_s": 0.1, "retries": 1, "deadline_s": 20.0}


@pytest.fixture
def images(edge_fleet: EdgeFleet) -> Images:
    return Images(edge_fleet)


@pytest.fixture
def node(clean_node: EdgeNode, edge_fleet: EdgeFleet) -> EdgeNode:
    clean_node.trust(edge_fleet.registry)
    return clean_node


class _Countdown:
    """Kills this process before one of its changes; what a node is like after one, it is before the next."""

    def __init__(self, moment: int) -> None:
        self.left = moment

    def pass_by(self) -> None:
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1

    def around(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def counted(self_: Engine, *given: Any, **more: Any) -> Any:
            self.pass_by()
            return await call(self_, *given, **more)

        return counted

    def around_pull(self, call: Callable[..., Any]) -> Callable[..., Any]:
        async def counted(self_: Engine, *given: Any, **more: Any) -> Any:
            self.pass_by()
            async for message in call(self_, *given, **more):
                if message.get("status") in {"Downloading", "Pull complete"}:
                    self.pass_by()
                yield message

        return counted


def _try_once(node: EdgeNode, target: Target, moment: int) -> None:
    countdown = _Countdown(moment)
    for name in CHANGES:
        setattr(Engine, name, countdown.around(getattr(Engine, name)))
    Engine.pull = countdown.around_pull(Engine.pull)  # type: ignore[method-assign]
    with suppress(ContainerFailed):
        deploy(node, target)


def killed_at(node: EdgeNode, target: Target, moment: int) -> bool:
    """Deploy in a process that is killed at ``moment``; False where it came to its end before."""
    child = multiprocessing.get_context("fork").Process(target=_try_once, args=(node, target, moment))
    child.start()
    child.join(300)
    assert child.exitcode in {0, -signal.SIGKILL}
    return child.exitcode != 0


def test_a_try_killed_before_any_change_is_finished_by_the_next(node: EdgeNode, images: Images) -> None:
    moment, is_killed = 0, True
    current = images.push()
    deploy(node, images.target(current))
    while is_killed:
        previous, current = current, images.push()
        target = images.target(current, previous_digest=previous.digest)
        is_killed = killed_at(node, target, moment)
        assert len([state for _, state in containers(node) if state == "running"]) <= 1
        deploy(node, target)
        assert containers(node) == [(current.digest, "running")], f"killed at {moment}"
        assert digests(node) == {current.digest, previous.digest}, f"killed at {moment}"
        moment += 1
    assert moment > 8


def test_a_try_killed_while_it_goes_back_is_finished_by_the_next(node: EdgeNode, images: Images) -> None:
    good = images.push()
    deploy(node, images.target(good))
    target = images.target(images.push(), quick_model(health=UNHEALTHY))
    moment, is_killed = 0, True
    while is_killed:
        is_killed = killed_at(node, target, moment)
        with pytest.raises(ContainerFailed, match="runs again"):
            deploy(node, target)
        assert containers(node) == [(good.digest, "running")], f"killed at {moment}"
        moment += 1
    assert moment > 5


def test_after_a_killed_try_that_was_bad_the_good_one_is_still_known(node: EdgeNode, images: Images) -> None:
    good, bad, better = images.push(), images.push(), images.push()
    deploy(node, images.target(good))
    first, second = (images.target(image, quick_model(health=UNHEALTHY)) for image in (bad, better))
    moment, is_killed = 0, True
    while is_killed:
        is_killed = killed_at(node, first, moment)
        with pytest.raises(ContainerFailed, match=f"the previous container, {good.digest[:19]}, runs again"):
            deploy(node, second)
        running = [digest for digest, state in containers(node) if state == "running"]
        assert running == [good.digest], f"killed at {moment}"
        moment += 1
    assert moment > 5
    deploy(node, images.target(better))
    assert containers(node) == [(better.digest, "running")]


# -- the link ----------------------------------------------------------------------------------------------------------


async def _cut_in_mid_pull(node: EdgeNode, target: Target, *, fast: bool) -> float:
    """Cut a node off as soon as bytes come; returns how long it took to find out, seconds."""
    cut_at = 0.0

    async def cut() -> None:
        nonlocal cut_at
        await asyncio.sleep(2)
        await asyncio.to_thread(node.cut, fast=fast)
        cut_at = time.monotonic()

    # the same as in use, but a dead link is found out within 3 s instead of 45
    async with session_to(node, keepalive_s=1) as session:
        cutting = asyncio.create_task(cut())
        with pytest.raises((ConnectionCut, EngineAway)) as caught:
            await deploy_node(session, target)
        await cutting
    assert isinstance(caught.value, ConnectionCut)
    return time.monotonic() - cut_at


@pytest.mark.parametrize("fast", [False, True])
def test_a_node_cut_off_in_mid_pull_ends_right_when_it_is_back(node: EdgeNode, images: Images, fast: bool) -> None:
    good, image = images.push(), images.push(size_mb=40)
    deploy(node, images.target(good))
    node.limit_rate(5_000_000)
    assert asyncio.run(_cut_in_mid_pull(node, images.target(image), fast=fast)) < 40
    assert containers(node) == [(good.digest, "running")]
    node.restore()
    node.limit_rate(None)
    deploy(node, images.target(image))
    assert containers(node) == [(image.digest, "running")]


def test_two_pulls_of_one_image_transfer_it_once(node: EdgeNode, images: Images) -> None:
    image = images.push(size_mb=20)
    node.limit_rate(10_000_000)

    async def both() -> None:
        async def one() -> None:
            async with session_to(node) as session, connect(session) as engine:
                auth = await node_auth(session, images.registry)
                await pull_image(engine, image.reference(images.registry), auth)

        await asyncio.gather(one(), one(), one())

    counter = "/sys/class/net/eth0/statistics/rx_bytes"
    before = int(node.run("cat", counter))
    asyncio.run(both())
    assert int(node.run("cat", counter)) - before < 1.5 * 20_000_000
    assert image.digest in digests(node)


def test_an_engine_that_is_killed_at_the_gate_is_no_verdict(node: EdgeNode, images: Images) -> None:
    good = images.push()
    deploy(node, images.target(good))
    slow = images.target(images.push(), quick_model(health={"stable_s": 5.0, "deadline_s": 30.0}))

    async def main() -> None:
        at_gate = asyncio.Event()
        steps = Steps(status=lambda status: at_gate.set() if status == "gate" else None)

        async def kill() -> None:
            await at_gate.wait()
            await asyncio.sleep(1)
            await asyncio.to_thread(node.kill_engine)

        async with session_to(node) as session:
            killing = asyncio.create_task(kill())
            with pytest.raises(EngineAway):
                await deploy_node(session, slow, steps)
            await killing

    try:
        asyncio.run(main())
    finally:
        node.start_engine()
    deploy(node, slow)
    assert containers(node) == [(slow.image.digest, "running")]


def test_a_power_cut_at_the_gate_is_no_verdict(node: EdgeNode, images: Images) -> None:
    good = images.push()
    deploy(node, images.target(good))
    target = images.target(images.push("sync; " + RUNS), quick_model(health={"stable_s": 5.0, "deadline_s": 30.0}))

    def power_off(status: str) -> None:
        if status == "gate":
            node.power_off()

    async def main() -> None:
        async with session_to(node, keepalive_s=1) as session:
            with pytest.raises(NodeError) as caught:
                await deploy_node(session, target, Steps(status=power_off))
        assert not isinstance(caught.value, ContainerFailed)

    asyncio.run(main())
    node.start()
    deploy(node, target)
    assert containers(node) == [(target.image.digest, "running")]
