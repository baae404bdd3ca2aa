"""Result lines: one JSON object a line, told when it is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Say = Callable[..., None]
"""Takes the kind of a line and, by name, what else it says; None is left out."""


def line(kind: str, **more: Any) -> str:
    """Return one line."""
    told = {name: value for name, value in more.items() if value is not None}
    return json.dumps({"kind": kind, **told}, separators=(",", ":"), allow_nan=False)


def say(kind: str, **more: Any) -> None:
    """Print one line."""
    print(line(kind, **more), flush=True)
