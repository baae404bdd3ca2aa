"""Which images stay on a node: this one and the one before it. On a real engine: test_node.py."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from evc.engine.client import Engine
from evc.fleet.images import Image
from evc.rollout.node import Steps, Target, prune
from tests.fleet.reid import model

REGISTRY = "registry.example:5001"
NOW, BEFORE, TRIED, OLD = (f"sha256:{digit * 64}" for digit in "4321")
CREATED = {NOW: 300, BEFORE: 200, TRIED: 400, OLD: 100}  # someone tried the newest one once, with run_inference


class Images:
    """Stands for an engine that has these images."""

    def __init__(self, *digests: str) -> None:
        self.digests = list(digests)

    async def images(self, *, reference: str) -> list[dict[str, Any]]:
        return [{"Created": CREATED[digest], "RepoDigests": [f"{reference}@{digest}"]} for digest in self.digests]

    async def remove_image(self, reference: str) -> bool:
        self.digests.remove(reference.partition("@")[2])
        return True


@pytest.mark.parametrize(
    ("replaced", "noted", "left"),
    [
        (BEFORE, None, {NOW, BEFORE}),
        (None, BEFORE, {NOW, BEFORE}),
        (NOW, BEFORE, {NOW, BEFORE}),  # the same image with another model.yaml
        (None, NOW, {NOW, TRIED}),  # the same image once more: the newest of the others
        (None, None, {NOW, TRIED}),
    ],
)
def test_this_image_and_the_one_before_it_stay(replaced: str | None, noted: str | None, left: set[str]) -> None:
    engine = Images(*CREATED)
    target = Target(model(), Image("reid", NOW), REGISTRY, "1", previous_digest=noted)
    asyncio.run(prune(cast(Engine, engine), target, replaced, Steps()))
    assert set(engine.digests) == left
