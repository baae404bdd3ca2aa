"""The way of an image from the builder to the registry."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import aclosing

from evc.engine.client import Auth, Engine
from evc.errors import EngineAway, EngineError, InputError
from evc.fleet.images import check_digest
from evc.fleet.progress import Progress

# Docker Engine 20.10 to 28: crypto/x509's words, and those of registries for what was never pushed
_NOT_TRUSTED = ("x509: certificate signed by unknown authority", "x509: certificate relies on legacy")
_NOT_THERE_YET = ("manifest unknown", "name unknown", "not found", "NAME_UNKNOWN", "MANIFEST_UNKNOWN")


async def push_image(
    engine: Engine, image: str, repository: str, tag: str, auth: Auth, on_line: Callable[[str], None]
) -> str:
    """Push the engine's ``image`` as ``repository:tag``; returns its digest in the registry.

    What the registry has already is not sent again, so a push that was cut is simply done once more.

    :param image: id or name of an image of the engine
    :param repository: with the registry's address
    :param on_line: gets how far it is, every few seconds
    :raises EngineError: the push failed, with the engine's words; or another build took the same tag meanwhile
    """
    await engine.tag(image, repository, tag)
    progress, digest, retry = Progress(), None, ""
    async with aclosing(engine.push(repository, tag, auth)) as messages:
        async for message in messages:
            digest = _digest(message) or digest
            status = str(message.get("status", ""))
            if status.startswith("Retrying") and status.partition(" in ")[0] != retry:
                retry = status.partition(" in ")[0]
                on_line(f"{status}: the registry does not take it")
            snapshot = progress.feed(message, time.monotonic())
            if snapshot:
                on_line(snapshot.line)
    on_line(progress.snapshot().line)
    known = await engine.image(image)
    if digest is None or known is None or f"{repository}@{digest}" not in (known.get("RepoDigests") or ()):
        raise EngineError(f"{engine.name}: {repository}:{tag} was taken by another build while this one pushed it")
    return digest


async def check_way(engine: Engine, repository: str, tag: str, auth: Auth) -> bool:
    """Return whether the builder's engine trusts the registry; False where it does not know its certificate.

    :param repository: with the registry's address
    :raises EngineError: the engine can't reach it, or it refuses the account
    """
    try:
        await engine.distribution(f"{repository}:{tag}", auth)
    except EngineAway:
        raise
    except EngineError as error:
        words = str(error)
        if any(sign in words for sign in _NOT_TRUSTED):
            return False
        if not any(sign in words for sign in _NOT_THERE_YET):
            raise
    return True


def _digest(message: dict[str, object]) -> str | None:
    aux = message.get("aux")
    try:
        return check_digest("digest", aux.get("Digest")) if isinstance(aux, dict) else None
    except InputError:
        return None
