"""What tests of roll-outs share: images, targets, and a look at what a node really runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from docker.errors import NotFound

from evc.fleet.images import Image
from evc.fleet.models import Model
from evc.rollout.node import Deployed, Steps, Target, deploy_node
from evc.ssh.credentials import load_credentials
from evc.ssh.session import Session, open_session
from tests.fleet.reid import model
from tests.servers.edge import EdgeFleet
from tests.servers.edge_node import EdgeNode

RUNS = "trap 'exit 0' TERM; while :; do sleep 0.2; done"
"""Runs until it is told to end, and then ends at once: the first process of a container has no default for SIGTERM."""
QUICK = {"stable_s": 0.3, "deadline_s": 20.0}


def quick_model(**more: object) -> Model:
    """Return a model whose gate takes little time."""
    return model(**{"health": QUICK, "resources": {"memory_bytes": 32 * 1024**2, "cpus": 0.5}, **more})


class Images:
    """Pushes images of one repository, each with a script of its own."""

    def __init__(self, fleet: EdgeFleet, repository: str = "reid") -> None:
        self.fleet, self.repository = fleet, repository
        self.registry = fleet.registry.address(fleet.registry.pull)
        self._number = 0

    def push(self, script: str = RUNS, **more: Any) -> Image:
        """Push an image that no test has pushed before."""
        self._number += 1
        tag = f"{self.repository}-{id(self)}-{self._number}"
        digest = self.fleet.push_image(self.repository, tag, script=f"# {tag}\n{script}", **more)
        return Image(self.repository, digest)

    def target(self, image: Image, it: Model | None = None, **more: Any) -> Target:
        """Return what brings a node to ``image``."""
        return Target(it or quick_model(), image, self.registry, "1", **more)


@asynccontextmanager
async def session_to(node: EdgeNode, keepalive_s: float | None = None) -> AsyncIterator[Session]:
    """Log in to a node.

    :param keepalive_s: how soon a dead link is found out, instead of the usual three quarters of a minute
    """
    credentials = load_credentials("evc_nodes", login=node.user, key_file=str(node.key_file))
    session = await open_session(node.node(), credentials, timeout_s=20, exchanges=asyncio.Semaphore(4))
    if keepalive_s:
        session.connection.set_keepalive(keepalive_s, 2)
    try:
        yield session
    finally:
        await session.close()


def deploy(node: EdgeNode, target: Target, steps: Steps | None = None) -> Deployed:
    """Bring a node to ``target``."""

    async def main() -> Deployed:
        async with session_to(node) as session:
            return await deploy_node(session, target, steps)

    return asyncio.run(main())


def containers(node: EdgeNode, name: str = "reid") -> list[tuple[str, str]]:
    """Return digest and state of the containers that bear the label of a model, past SSH."""
    with node.engine() as engine:
        found = engine.containers.list(ignore_removed=True, all=True, filters={"label": f"evc.model={name}"})
        return sorted((it.labels.get("evc.digest", ""), it.status) for it in found)


def inspect(node: EdgeNode, container_id: str) -> dict[str, Any]:
    """Return all that its engine says of a container, past SSH; empty: it is gone."""
    with node.engine() as engine:
        try:
            attributes: dict[str, Any] = engine.containers.get(container_id).attrs
        except NotFound:
            return {}
        return attributes


def digests(node: EdgeNode, repository: str = "reid") -> set[str]:
    """Return the digests of a repository's images on a node, past SSH."""
    with node.engine() as engine:
        references = [name for image in engine.images.list() for name in image.attrs.get("RepoDigests") or []]
        return {name.partition("@")[2] for name in references if name.partition("@")[0].endswith(f"/{repository}")}
