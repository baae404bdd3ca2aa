"""How much a counter grew between two readings of the same boot. Never negative, never guessed."""

from __future__ import annotations

from typing import Final

_WRAP: Final = 2**32
_MAX_PACKET_BYTES: Final = 2**16
"""What one packet counts at most, segments merged by the driver included."""


def increase(previous: int, current: int) -> int | None:
    """Return how much a counter grew; None where it went down, because then it began again at an unknown moment."""
    return current - previous if current >= previous else None


def byte_increase(previous: int, current: int, packets: int | None) -> int | None:
    """Return how much a byte counter grew, also where a 32-bit one wrapped once.

    A counter that went down wrapped only if it was of 32 bits, the interface's packet counter did not go down with it,
    and so many packets can carry what the wrap says; else the interface began again.

    :param packets: growth of the packet counter of the same direction; None where that one went down
    :return: bytes; None where nobody can tell
    """
    if current >= previous:
        return current - previous
    if previous >= _WRAP or packets is None:
        return None
    wrapped = current + _WRAP - previous
    return wrapped if wrapped <= packets * _MAX_PACKET_BYTES else None
