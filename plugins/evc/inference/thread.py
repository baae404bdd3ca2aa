"""Work of a thread that is never left alone half done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

_Result = TypeVar("_Result")


async def to_end(work: Callable[[], _Result]) -> _Result:
    """Let a thread do ``work``; who is cancelled meanwhile waits for its end first, so nothing is written twice."""
    doing = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait({doing})
        raise
