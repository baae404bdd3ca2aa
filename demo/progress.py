"""Lines that say what the demo does while it does it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from demo.state import DemoError

T = TypeVar("T")

_BEGUN = time.monotonic()


def say(text: str) -> None:
    """Print one line of progress with the seconds since the start."""
    print(f"{time.monotonic() - _BEGUN:6.1f} s  {text}", flush=True)


def wait_until(ready: Callable[[], T | None], timeout_s: float, what: str) -> T:
    """Return the first answer of ``ready`` that is not None; say every 10 s what is waited for.

    :raises DemoError: none came in time
    """
    begun = said = time.monotonic()
    while (answer := ready()) is None:
        now = time.monotonic()
        if now - begun > timeout_s:
            raise DemoError(f"waited {timeout_s:.0f} s for {what}")
        if now - said > 10:
            say(f"... waiting for {what}")
            said = now
        time.sleep(0.5)
    return answer
