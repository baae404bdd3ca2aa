"""When the sweeps of a run take place.

A tick is the second at which a sweep is due; it is also the ``ts`` of the samples, so that a sweep done again after a
task was killed meets the rows it wrote before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ticks:
    """The ticks of one run.

    :param start_ts: the first one, unix seconds
    :param interval_s: from one to the next
    :param count: how many
    """

    @classmethod
    def of_window(cls, begin_ts: int, window_s: int, interval_s: int) -> Ticks:
        """Return the ticks of a run's window.

        The first one is a third of an interval after the window begins: so much time has Airflow to start the task.
        """
        return cls(begin_ts + interval_s // 3, interval_s, window_s // interval_s)

    start_ts: int
    interval_s: int
    count: int

    def at(self, index: int) -> int:
        """Return the unix second of tick ``index``."""
        return self.start_ts + index * self.interval_s

    def next_index(self, now_ts: float) -> int:
        """Return the tick to keep next: the latest one if it is a quarter interval ago at most, else the one to come.

        A later sweep would bear a time at which nothing was read. ``count`` where the window is over.
        """
        return min(max(math.ceil((now_ts - self.start_ts) / self.interval_s - 0.25), 0), self.count)


def is_due(interval_s: int, last_ts: int | None, tick_ts: int, phase: int) -> bool:
    """Whether a probe with a cadence of its own is due at a tick.

    The clock is cut into slots of ``interval_s``; a probe is due once in each. ``phase`` (the node's id) shifts the
    slots, so that not all nodes run their slow probes in the same sweep.

    :param interval_s: 0 means every tick
    :param last_ts: the tick at which it last succeeded; None means never
    """
    if interval_s == 0 or last_ts is None:
        return True
    shift = phase * 7919 % interval_s
    return (tick_ts + shift) // interval_s != (last_ts + shift) // interval_s
