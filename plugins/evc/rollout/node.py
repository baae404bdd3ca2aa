"""One node of a roll-out: from whatever is there to one healthy container of the wanted image.

Every step looks first at what is there, so that a try which was killed anywhere is simply repeated:

1. preflight and pull, where the image is missing: nothing that runs is touched
2. create the new container, stopped; its name ends in ``-new``
3. stop the previous one, which is kept
4. start the new one and wait at its health gate
5. healthy: rename it, which is what "good" means after any crash; remove the others; remove older images
6. not healthy: stop it, start the previous one again, remove the new one
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from evc.engine.account import node_auth
from evc.engine.client import IDLE_TIMEOUT_S, Auth, Engine, connect
from evc.engine.pull import Pulled, pull_image
from evc.errors import ContainerFailed, EngineAway, EngineError, NodeRefused
from evc.fleet.containers import Container, deployed_container
from evc.fleet.images import Image
from evc.fleet.models import Model
from evc.fleet.preflight import check
from evc.fleet.progress import Layer, Snapshot, megabytes
from evc.rollout.containers import NEW, Running, previous_of, running
from evc.rollout.facts import bytes_to_pull, gather_facts
from evc.rollout.gate import last_lines, start_and_wait
from evc.ssh.session import Session

_CONFLICT = 409
Given = TypeVar("Given")


def _ignore(_: Given) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Target:
    """What a node is to run.

    :param registry: ``host:port`` of the pull-only face as nodes see it
    :param rollout: label of a new container: who asked for it
    :param layers: of the image, lowest first: then totals are exact and the disk is checked before a pull
    :param previous_digest: what an earlier try of the same roll-out found here; its image is kept
    """

    model: Model
    image: Image
    registry: str
    rollout: str
    layers: tuple[Layer, ...] = ()
    previous_digest: str | None = None

    @property
    def reference(self) -> str:
        """The image as the node names it."""
        return self.image.reference(self.registry)


@dataclass(frozen=True, slots=True)
class Steps:
    """Who is told what happens on the node. None of them may block for long.

    :param status: ``preflight``, ``pulling``, ``starting``, ``gate``
    :param progress: of the pull, every few seconds
    :param log: a line for people
    :param before_change: the container that was good until now (the wanted one itself, where it only stands still), or
        None; told before anything on the node changes, again in a repeated try; not told where nothing has to change
    """

    status: Callable[[str], None] = _ignore
    progress: Callable[[Snapshot], None] = _ignore
    log: Callable[[str], None] = _ignore
    before_change: Callable[[Running | None], None] = _ignore


@dataclass(frozen=True, slots=True)
class Deployed:
    """A node that runs what it is to run.

    :param previous: what was replaced now; None: nothing was there, or an earlier try has replaced it
    :param changed: False where all of it was there already
    :param bytes_done: what the pull brought, compressed
    :param health: how its health was seen, one line
    """

    container_id: str
    config: str
    previous: Running | None
    changed: bool
    bytes_done: int
    health: str


@dataclass(slots=True)
class _Found:
    """The containers of the model on the node: the wanted one, if it is there, and the others."""

    wanted: Running | None
    others: list[Running] = field(default_factory=list)


def wanted_config(target: Target) -> str:
    """Return the ``config`` of the container that ``target`` asks for, see ``Running.config``."""
    return _wanted(target).config


async def deploy_node(
    session: Session, target: Target, steps: Steps | None = None, *, idle_s: float = IDLE_TIMEOUT_S
) -> Deployed:
    """Bring a node to ``target``, whatever an earlier try has left. Where it raises, the previous container is back.

    :param idle_s: how long a pull may stand still
    :raises NodeRefused: preflight; nothing was changed
    :raises PullFailed: the image did not arrive; nothing was changed
    :raises ContainerFailed: the new container did not become healthy
    :raises NodeError: of another kind: the way to the node ended, no verdict; the same again later finishes it
    """
    steps = steps or Steps()
    async with connect(session) as engine:
        wanted = _wanted(target)
        found = await _find(engine, target, wanted)
        if found.wanted and found.wanted.is_right and not found.others and found.wanted.health != "starting":
            await prune(engine, target, None, steps)
            health = found.wanted.health or found.wanted.state
            return Deployed(found.wanted.container_id, wanted.config, None, changed=False, bytes_done=0, health=health)
        pulled = await fetch(engine, target, steps, idle_s=idle_s)
        return await _replace(engine, target, wanted, pulled, steps)


async def fetch(engine: Engine, target: Target, steps: Steps, *, idle_s: float = IDLE_TIMEOUT_S) -> Pulled:
    """Check that the node is fit, and pull the image where it is missing.

    :raises NodeRefused: every reason why it is not fit
    :raises PullFailed: the image did not arrive
    """
    steps.status("preflight")
    auth = await preflight(engine, target)
    steps.status("pulling")

    def report(snapshot: Snapshot) -> None:
        steps.progress(snapshot)
        steps.log(f"pull: {snapshot.line}")

    pulled = await pull_image(engine, target.reference, auth, layers=target.layers, report=report, idle_s=idle_s)
    if pulled.was_there:
        steps.log("the image is there already")
    else:
        steps.log(f"pulled {megabytes(pulled.bytes_done)} MB in {pulled.duration_s:.1f} s")
    return pulled


async def preflight(engine: Engine, target: Target) -> Auth | None:
    """Check that the node is fit for ``target``; returns its account at the registry, None where it has the image.

    :raises NodeRefused: every reason why it is not
    """
    auth: Auth | None = None
    pull_bytes: int | None = 0
    if not await engine.image(target.reference):
        auth = await node_auth(engine.session, target.registry)
        pull_bytes = await bytes_to_pull(engine, target.image, target.registry, target.layers)
    facts = await gather_facts(engine, target.model, target.image, target.registry, auth)
    refusals = check(facts, target.model, pull_bytes)
    if refusals:
        refused = NodeRefused(f"{engine.name}: {'. '.join(map(str, refusals))}")
        refused.checks = tuple(dict.fromkeys(refusal.check for refusal in refusals))
        refused.may_pass = all(refusal.may_pass for refusal in refusals)
        raise refused
    return auth


async def withdraw(engine: Engine, model: str) -> int:
    """Take every deployed container of ``model`` from the node; returns how many there were. Images stay."""
    containers = await running(engine, model)
    for container in containers:
        await _remove(engine, container.container_id)
    return len(containers)


async def prune(engine: Engine, target: Target, previous: str | None, steps: Steps) -> None:
    """Remove images of the target's repository but its own and the previous one; what a container uses stays.

    :param previous: digest of the image to keep beside; None: the one that an earlier try noted, else the newest
    """
    name = f"{target.registry}/{target.image.repository}"
    found: list[tuple[int, str]] = []
    for image in await engine.images(reference=name):
        references = [str(it) for it in image.get("RepoDigests") or [] if str(it).startswith(f"{name}@")]
        found += [(int(image.get("Created") or 0), reference.partition("@")[2]) for reference in references]
    older = [digest for _, digest in sorted(found, reverse=True) if digest != target.image.digest]
    noted = [digest for digest in (previous, target.previous_digest) if digest in older]
    kept = noted[0] if noted else next(iter(older), None)  # what was deployed twice is not its own previous one
    for digest in older:
        if digest != kept:
            try:
                await engine.remove_image(f"{name}@{digest}")
                steps.log(f"removed older image {digest[:19]}")
            except EngineError as error:
                if error.status != _CONFLICT:
                    raise


async def _replace(engine: Engine, target: Target, wanted: Container, pulled: Pulled, steps: Steps) -> Deployed:
    found = await _find(engine, target, wanted)
    previous = previous_of([container for container in found.others if container.is_gated])
    steps.before_change(previous or (found.wanted if found.wanted and found.wanted.is_gated else None))
    steps.status("starting")
    if found.wanted is None:
        container_id, was_good = await _create(engine, wanted), False
    else:
        container_id, was_good = found.wanted.container_id, found.wanted.is_gated
    try:
        await _make_way(engine, found)
        steps.status("gate")
        health = await start_and_wait(engine, container_id, target.model)
    except ContainerFailed as error:
        await _tell(engine, container_id, steps)
        consequence = await _go_back(engine, container_id, previous, was_good=was_good)
        raise ContainerFailed(f"{error}; {consequence}") from None
    steps.log(f"container {container_id[:12]}: {health}")
    if not was_good:
        await engine.rename(container_id, wanted.name)
    for other in found.others:
        await _remove(engine, other.container_id)
    await prune(engine, target, previous.digest if previous else None, steps)
    return Deployed(container_id, wanted.config, previous, changed=True, bytes_done=pulled.bytes_done, health=health)


def _wanted(target: Target) -> Container:
    return deployed_container(target.model, target.image, target.registry, target.rollout)


async def _find(engine: Engine, target: Target, wanted: Container) -> _Found:
    """Tell the wanted container from the others; of several, the good one that runs is the wanted one."""
    containers = await running(engine, target.model.name)
    wanted_ones = [container for container in containers if container.config == wanted.config]
    chosen = previous_of(wanted_ones)
    return _Found(chosen, [container for container in containers if container is not chosen])


async def _create(engine: Engine, wanted: Container) -> str:
    name = f"{wanted.name}{NEW}"
    try:
        return await engine.create(name, wanted.body)
    except EngineAway:
        raise
    except EngineError as error:
        if error.status == _CONFLICT:
            return await _that_of_another_try(engine, name, wanted, error)
        raise ContainerFailed(str(error)) from None


async def _that_of_another_try(engine: Engine, name: str, wanted: Container, error: EngineError) -> str:
    """Return the container that took the name meanwhile, where it is the same one."""
    for container in await running(engine):
        if container.name == name and container.config == wanted.config:
            return container.container_id
    raise ContainerFailed(f"{error}; docker rm {name} on the node, it is none of EVC's") from None


async def _make_way(engine: Engine, found: _Found) -> None:
    """Stop what runs of the model, and the wanted one where it runs but is not healthy."""
    stuck = found.wanted if found.wanted and _is_stuck(found.wanted) else None
    for container in [*found.others, *([stuck] if stuck else [])]:
        await _stop(engine, container)


def _is_stuck(container: Running) -> bool:
    return container.state in {"paused", "restarting"} or (container.is_up and container.health == "unhealthy")


async def _stop(engine: Engine, container: Running) -> None:
    if container.state == "paused":
        await engine.unpause(container.container_id)
    if container.is_up:
        await engine.stop(container.container_id)


async def _go_back(engine: Engine, container_id: str, previous: Running | None, *, was_good: bool) -> str:
    """Put the previous container back in place of one that failed; returns what became of both, for people.

    The order leaves, wherever it is interrupted, something that the next try understands.
    """
    if previous is None and was_good:
        return "it was good before, nothing else is there to go back to, and it is left to its restart policy"
    await engine.stop(container_id)
    consequence = "there was none before it"
    if previous is not None and previous.mode == "continuous":
        consequence = await _start_again(engine, previous)
    elif previous is not None:
        consequence = f"{previous.digest[:19]} stays deployed"
    if not was_good:
        await _remove(engine, container_id)
    return consequence


async def _start_again(engine: Engine, previous: Running) -> str:
    try:
        await engine.start(previous.container_id)
    except EngineAway:
        raise
    except EngineError as error:
        return f"the previous container, {previous.digest[:19]}, does not start either: {error}"
    return f"the previous container, {previous.digest[:19]}, runs again"


async def _remove(engine: Engine, container_id: str) -> None:
    try:
        await engine.remove(container_id)
    except EngineError as error:
        if error.status != _CONFLICT:  # another removal is in progress
            raise


async def _tell(engine: Engine, container_id: str, steps: Steps) -> None:
    lines: Sequence[str] = await last_lines(engine, container_id)
    for line in lines:
        steps.log(f"container: {line}")
