"""Pressure stall information: the share of the time in which at least one task waited for CPU, memory or I/O.

Source: ``/proc/pressure/{cpu,memory,io}``, line ``some``, kernel documentation accounting/psi. Linux 4.20 and later
where it is built in and switched on; no privilege needed. Taken from ``total=`` in microseconds, over the time between
two readings, because the kernel's own averages are of other spans.
"""

from __future__ import annotations

from evc.errors import ParseError
from evc.probes.answer import Answer
from evc.probes.fields import excerpt, whole
from evc.probes.probe import Before, Probe, Sample, Value
from evc.probes.rates import increase

_RESOURCES = ("cpu", "memory", "io")


def parse(path: str, text: str) -> int:
    """Read the microseconds that some task has waited since boot.

    :raises ParseError: no line ``some`` with a total
    """
    line = text.partition("\n")[0]
    try:
        if line.startswith("some "):
            return whole(line.partition(" total=")[2])
    except ValueError:
        pass
    raise ParseError(f"{path}: {excerpt(line)} is not a line 'some' with its total")


def read(answer: Answer, before: Before | None) -> Sample | None:
    """Return ``pressure_cpu_ratio``, ``pressure_memory_ratio`` and ``pressure_io_ratio``, 0..1."""
    totals: dict[str, int] = {}
    columns: dict[str, Value] = {}
    for resource in _RESOURCES:
        path = f"/proc/pressure/{resource}"
        text = answer.file(path)
        if not text:  # not there, or there and switched off: then it cannot be read
            continue
        totals[resource] = parse(path, text)
        if before and resource in before.counters:
            waited_us = increase(before.counters[resource], totals[resource])
            ratio = None if waited_us is None else min(1.0, waited_us / (before.elapsed_s * 1e6))
            columns[f"pressure_{resource}_ratio"] = ratio
    return Sample(columns=columns, counters=totals) if totals else None


PROBE = Probe(name="pressure", files=tuple(f"/proc/pressure/{resource}" for resource in _RESOURCES), read=read)
