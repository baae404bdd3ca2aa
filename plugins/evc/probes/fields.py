"""Fields of text that a node sent: numbers that fit their column, names that fit theirs.

Nothing here trusts a node: other digits than ASCII, ``nan``, ``1_000``, numbers beyond their column and control
characters do not pass.
"""

from __future__ import annotations

import re
from typing import Final

MAX_COUNTER: Final = 2**64 - 1
MAX_KIBIBYTES: Final = 2**43
"""8 PiB in bytes, with room to add up a hundred of them in a BIGINT."""
_EXCERPT_CHARACTERS = 60
_DECIMAL = re.compile(r"[0-9]+(?:\.[0-9]*)?")


def whole(text: str, most: int = MAX_COUNTER) -> int:
    """Return the unsigned decimal number that ``text`` is.

    :raises ValueError: it is none, or it is more than ``most``
    """
    if len(text) <= 20 and text.isdecimal() and text.isascii() and (number := int(text)) <= most:
        return number
    raise ValueError("no whole number, or too great a one")


def signed(text: str) -> int:
    """Return the decimal number that ``text`` is, which may be negative.

    :raises ValueError: it is none
    """
    return -whole(text[1:]) if text.startswith("-") else whole(text)


def decimal(text: str, below: float) -> float:
    """Return the unsigned number that ``text`` is, such as ``0.07``.

    :raises ValueError: it is none, or not below ``below``
    """
    if len(text) <= 32 and _DECIMAL.fullmatch(text) and (number := float(text)) < below:
        return number
    raise ValueError("no number, or too great a one")


def printable(text: str, characters: int) -> str:
    """Return ``text`` on one line of at most ``characters``, with U+FFFD for each character that does not print."""
    text = text[:characters]
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def excerpt(text: str) -> str:
    """Return the beginning of ``text`` as an error may show it: quoted, on one line."""
    return repr(text[:_EXCERPT_CHARACTERS])
