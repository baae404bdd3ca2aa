"""Waves of a roll-out, and the gate after each.

A wave is one more part of the chosen nodes; what a person gives are the ends of the waves, as a count of nodes or as a
percentage of all of them: ``[1, "25%", "100%"]`` is one node first, then a quarter of all, then the rest.

A gate works as in Eclipse hawkBit: the next wave starts when at least ``success_threshold`` percent of the wave's nodes
succeeded; the roll-out ends, and goes back, when more than ``error_threshold`` percent of them failed. A node that
does not answer is neither.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import TypeVar

from evc.errors import InputError
from evc.fleet.nodes import quote

MAX_WAVES = 5
PERCENT_PATTERN = r"^(?:100|[1-9]?[0-9](?:\.[0-9]{1,2})?)%$"
DEFAULT_WAVES: tuple[int | str, ...] = (1, "25%", "100%")

WAITING = "waiting"
PENDING = "pending"
SUCCEEDED = "succeeded"
EXPIRED = "expired"
ABORTED = "aborted"
ROLLED_BACK = "rolled_back"
WORKING = frozenset({"preflight", "pulling", "starting", "gate"})
FAILED = frozenset({"refused", "failed"})
STATUSES = frozenset({WAITING, PENDING, SUCCEEDED, EXPIRED, ABORTED, ROLLED_BACK, *WORKING, *FAILED})

_ALLOWED = f'1 to {MAX_WAVES} of counts (1, 2, ...) and percentages above 0 ("25%"), rising, "100%" last'

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class End:
    """Where a wave ends: one of both is given.

    :param count: of nodes, earlier waves included
    :param share: of all nodes, earlier waves included, above 0 and up to 1
    """

    count: int | None = None
    share: Fraction | None = None

    def of(self, total: int) -> int:
        """Return how many of ``total`` nodes have had their turn by then; a part of a node is a whole one."""
        if self.share is not None:
            return math.ceil(total * self.share)
        return min(self.count or 0, total)


def parse_waves(given: object) -> list[End]:
    """Return the ends of the waves that ``given`` describes.

    :raises InputError: naming the item that makes no sense
    """
    if not isinstance(given, list | tuple) or not 1 <= len(given) <= MAX_WAVES:
        raise InputError("waves", f"{quote(given)} is no list of 1 to {MAX_WAVES}", _ALLOWED)
    ends = [_end(f"waves[{index}]", item) for index, item in enumerate(given)]
    for index, end in enumerate(ends):
        earlier = [other for other in ends[:index] if (other.share is None) == (end.share is None)]
        if earlier and (earlier[-1].share or 0, earlier[-1].count or 0) >= (end.share or 0, end.count or 0):
            raise InputError(f"waves[{index}]", f"{quote(given[index])} is not more than the one before it", _ALLOWED)
    for index, end in enumerate(ends[:-1]):
        if end.share == 1:
            raise InputError(f"waves[{index + 1}]", f"nothing is left for it after {quote(given[index])}", _ALLOWED)
    if ends[-1].share is not None and ends[-1].share < 1:
        raise InputError(f"waves[{len(ends) - 1}]", f"{quote(given[-1])} leaves nodes out", 'end with "100%"')
    return ends


def _end(where: str, item: object) -> End:
    if isinstance(item, int) and not isinstance(item, bool) and item >= 1:
        return End(count=item)
    if isinstance(item, str) and re.fullmatch(PERCENT_PATTERN, item):
        share = Fraction(item[:-1]) / 100
        if share > 0:
            return End(share=share)
    raise InputError(where, f"{quote(item)} does not fit", 'a count of nodes from 1, or a percentage such as "25%"')


def cut(ends: Sequence[End], nodes: Sequence[Item]) -> list[list[Item]]:
    """Return the waves of ``nodes`` in their order; a wave for which no node is left is none.

    :raises InputError: there is no node, or the last wave leaves nodes out
    """
    if not nodes:
        raise InputError("nodes", "none was chosen", "at least one registered node")
    waves: list[list[Item]] = []
    done = 0
    for end in ends:
        until = end.of(len(nodes))
        if until > done:
            waves.append(list(nodes[done:until]))
            done = until
    if done < len(nodes):
        raise InputError("waves", f"the last one ends after {done} of {len(nodes)} nodes", 'end with "100%"')
    return waves


class Step(StrEnum):
    """What comes after a wave."""

    GO_ON = "go on"
    WAIT = "wait"
    GO_BACK = "go back"
    GIVE_UP = "give up"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate says.

    :param step: ``GO_BACK`` where the error threshold is crossed, ``GIVE_UP`` where too few can still succeed
    :param message: why, on one line
    """

    step: Step
    message: str


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Percent of a wave's nodes.

    :param success: from here on the next wave may start
    :param error: above this the roll-out goes back
    """

    success: float
    error: float


def is_crossed(statuses: Iterable[str], thresholds: Thresholds) -> bool:
    """Whether more nodes of a wave failed than may."""
    count = Counter(statuses)
    return _bad(count) * 100 > thresholds.error * count.total()


def judge(statuses: Iterable[str], thresholds: Thresholds, *, is_late: bool) -> Verdict:
    """Return what comes after a wave.

    :param statuses: one for each node of it, of :data:`STATUSES`
    :param is_late: the deadline for nodes that do not answer is over
    """
    count = Counter(statuses)
    total, good, bad = count.total(), count[SUCCEEDED], _bad(count)
    told = f"{good} of {total} succeeded, {bad} failed"
    if is_crossed(count.elements(), thresholds):
        return Verdict(Step.GO_BACK, f"{told}: more than the error threshold of {thresholds.error:g} %")
    if good * 100 >= thresholds.success * total:
        return Verdict(Step.GO_ON, told)
    open_ = count[WAITING] + sum(count[status] for status in WORKING)
    pending = 0 if is_late else count[PENDING]
    if (good + open_ + pending) * 100 >= thresholds.success * total:
        return Verdict(Step.WAIT, f"{told}, {count[PENDING]} do not answer yet, {open_} are not done")
    silent = count[PENDING] + count[EXPIRED]
    if silent:
        told += f", {silent} did not answer until the deadline" if is_late else f", {silent} did not answer"
    missed = f"the success threshold of {thresholds.success:g} % can't be reached any more"
    return Verdict(Step.GIVE_UP, f"{told}: {missed}")


def _bad(count: Counter[str]) -> int:
    return sum(count[status] for status in FAILED)
