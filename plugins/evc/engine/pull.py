"""An image on a node: pulled where it is missing, with progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from evc.engine.client import IDLE_TIMEOUT_S, Auth, Engine
from evc.errors import EngineAway, EngineError, PullFailed
from evc.fleet.progress import Layer, Progress, Snapshot

Report = Callable[[Snapshot], None]
"""Called every few seconds of a pull, and at its end."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """An image that is on the node now.

    :param image_id: ``sha256:...`` of its configuration
    :param bytes_done: what arrived, compressed; 0 where it was there before
    """

    image_id: str
    bytes_done: int
    duration_s: float
    was_there: bool


async def pull_image(
    engine: Engine,
    reference: str,
    auth: Auth | None,
    *,
    layers: Sequence[Layer] = (),
    report: Report | None = None,
    idle_s: float = IDLE_TIMEOUT_S,
) -> Pulled:
    """Pull ``reference`` where the node does not have it. Safe to repeat: the engine joins pulls of the same layers.

    :param reference: ``host:port/repository@sha256:...``
    :param layers: of its manifest: then totals are known from the start
    :param idle_s: how long the engine may say nothing
    :raises PullFailed: the engine's words say why
    :raises ConnectionCut: the way to the node ended; the engine may go on meanwhile
    """
    begin = time.monotonic()
    known = await engine.image(reference)
    if known:
        return Pulled(str(known["Id"]), 0, time.monotonic() - begin, was_there=True)
    progress = Progress(layers)
    try:
        async with aclosing(engine.pull(reference, auth, idle_s=idle_s)) as messages:
            async for message in messages:
                snapshot = progress.feed(message, time.monotonic())
                if snapshot and report:
                    report(snapshot)
    except EngineAway:
        raise
    except EngineError as error:
        raise _failed(error) from None
    if report:
        report(progress.snapshot())
    known = await engine.image(reference)
    if not known:
        raise PullFailed(f"{engine.name}: pull of {reference}: it ended, and the image is not there")
    return Pulled(str(known["Id"]), progress.bytes_done, time.monotonic() - begin, was_there=False)


def _failed(error: EngineError) -> PullFailed:
    words = str(error)
    if "no space left" in words:
        words += "; free some: docker system df tells what takes it"
    failed = PullFailed(words)
    failed.status = error.status
    return failed
