"""What a node's answer, or its silence, makes of its status."""

from __future__ import annotations

from dataclasses import dataclass

MISSED_SWEEPS_UNTIL_DOWN = 2


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a sweep says of a node.

    :param status: ``up``, ``down`` or, before anything is known, ``unknown``
    :param missed_sweeps: in a row
    :param changed: the status is another than before
    """

    status: str
    missed_sweeps: int
    changed: bool


def judge(status: str, missed_sweeps: int, answered: bool) -> Judgement:
    """Return the new status: up at the first answer, down after two missed sweeps in a row."""
    if answered:
        return Judgement("up", 0, status != "up")
    missed = missed_sweeps + 1
    new = "down" if missed >= MISSED_SWEEPS_UNTIL_DOWN else status
    return Judgement(new, missed, new != status)
