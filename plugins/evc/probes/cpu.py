"""How busy the processors were between two readings, all cores together.

Source: ``/proc/stat``, proc_stat(5). Any Linux; no privilege needed. Guest time is already inside user time; steal
counts as busy and is shown apart. The kernel's idle and iowait now and then go back a little: that is no time at all.
"""

from __future__ import annotations

from typing import Any

from evc.errors import ParseError
from evc.probes.answer import Answer
from evc.probes.fields import excerpt, whole
from evc.probes.probe import Before, Probe, Sample

_PATH = "/proc/stat"
_IDLE, _IOWAIT, _STEAL = 3, 4, 7


def parse(text: str) -> list[int]:
    """Read user, nice, system, idle, iowait, irq, softirq and steal time of all cores since boot, in clock ticks.

    Kernels before 2.6.11 have fewer, at least four.

    :raises ParseError: no line of totals, or one that is not of numbers
    """
    line = text.partition("\n")[0]
    fields = line.split()
    try:
        if fields[:1] != ["cpu"] or len(fields) < 5:
            raise ValueError
        return [whole(field) for field in fields[1:9]]
    except ValueError:
        raise ParseError(f"{_PATH}: {excerpt(line)} is not the times of all cores") from None


def shares(previous: Any, current: list[int]) -> dict[str, float]:
    """Return shares of the time between two readings, 0..1; empty where no tick passed.

    :param previous: what :func:`parse` returned then
    """
    if len(previous) != len(current):
        return {}
    spent = [max(0, now - then) for then, now in zip(previous, current, strict=True)]
    total = sum(spent)
    if total == 0:
        return {}
    iowait = spent[_IOWAIT] if len(spent) > _IOWAIT else 0
    ratios = {"cpu_usage_ratio": (total - spent[_IDLE] - iowait) / total}
    if len(spent) > _IOWAIT:
        ratios["cpu_iowait_ratio"] = iowait / total
    if len(spent) > _STEAL:
        ratios["cpu_steal_ratio"] = spent[_STEAL] / total
    return ratios


def read(answer: Answer, before: Before | None) -> Sample | None:
    """Return ``cpu_usage_ratio``, ``cpu_iowait_ratio`` and ``cpu_steal_ratio``, 0..1, from the second reading on."""
    text = answer.file(_PATH)
    if text is None:
        return None
    times = parse(text)
    return Sample(columns={**shares(before.counters, times)} if before else {}, counters=times)


PROBE = Probe(name="cpu", files=(_PATH,), read=read)
