"""Thresholds on what a model says of a node: whether one is crossed, and the line that tells it."""

from __future__ import annotations

from dataclasses import dataclass

from evc.fleet.scenarios import EventRule


@dataclass(frozen=True, slots=True)
class Summary:
    """What the lines of one kind say.

    :param count: of lines
    :param mean: of their values; None where no line has one, as are the others
    :param last: the value of the latest line that has one
    """

    count: int
    mean: float | None = None
    min: float | None = None
    max: float | None = None
    last: float | None = None


def crossed(rule: EventRule, now: Summary, before: Summary) -> str | None:
    """Return what an event says, on one line; None where there is nothing to say.

    :param now: of the rule's window, or of the run
    :param before: of the window before that one; only ``falls_by`` looks at it
    """
    value = getattr(now, rule.statistic)
    if value is None:
        return None
    if rule.falls_by is not None:
        return _fallen(rule, value, getattr(before, rule.statistic))
    what, limit = ("above", rule.above) if rule.above is not None else ("below", rule.below)
    if limit is None or not (value > limit if what == "above" else value < limit):
        return None
    return _line(rule, f"{value:.4g} is {what} {limit:g}")


def _fallen(rule: EventRule, value: float, earlier: float | None) -> str | None:
    if not earlier or earlier < 0 or rule.falls_by is None:
        return None  # nothing to fall from
    percent = 100 * (earlier - value) / earlier
    if percent < rule.falls_by:
        return None
    return _line(rule, f"{value:.4g} is {percent:.1f} % below the {earlier:.4g} of the {rule.window} before")


def _line(rule: EventRule, figures: str) -> str:
    label = f" {rule.label}" if rule.label else ""
    more = f": {rule.message}" if rule.message else ""
    return f"{rule.kind}{label}: {rule.statistic} {figures}{more}"
