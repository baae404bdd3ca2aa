"""Load averages of the last 1, 5 and 15 minutes.

Source: ``/proc/loadavg``, proc_loadavg(5). Any Linux; no privilege needed.
"""

from __future__ import annotations

from dataclasses import dataclass

from evc.errors import ParseError
from evc.probes.answer import Answer
from evc.probes.fields import decimal, excerpt
from evc.probes.probe import Before, Probe, Sample


@dataclass(frozen=True, slots=True)
class LoadAverage:
    """Runnable and uninterruptible tasks, averaged; dimensionless."""

    load1: float
    load5: float
    load15: float


def parse(text: str) -> LoadAverage:
    """Read three load averages, dimensionless.

    :raises ParseError: fewer than three numbers
    """
    try:
        load1, load5, load15 = (decimal(field, below=1e6) for field in text.split(None, 3)[:3])
    except ValueError:
        raise ParseError(f"/proc/loadavg: {excerpt(text)} does not begin with three numbers") from None
    return LoadAverage(load1, load5, load15)


def read(answer: Answer, before: Before | None) -> Sample | None:
    """Return ``load1``, ``load5``, ``load15``."""
    text = answer.file("/proc/loadavg")
    if text is None:
        return None
    load = parse(text)
    return Sample(columns={"load1": load.load1, "load5": load.load5, "load15": load.load15})


PROBE = Probe(name="load", files=("/proc/loadavg",), read=read)
