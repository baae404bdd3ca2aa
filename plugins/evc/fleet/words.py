"""How a count is said."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """Return e.g. ``1 node``, ``2,000 nodes``, ``2 addresses``."""
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{ending}"
