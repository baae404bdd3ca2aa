"""How busy the GPU of an NVIDIA Jetson is.

Source: ``/sys/class/devfreq/*/device/load`` of the nvgpu driver, per mille: ``57000000.gpu`` (Nano, TX1),
``17000000.gp10b`` (TX2), ``17000000.gv11b`` (Xavier), ``17000000.ga10b`` or ``17000000.gpu`` (Orin). No privilege
needed. Other devices of devfreq (memory, video) do not match.
"""

from __future__ import annotations

from evc.errors import ParseError
from evc.probes.answer import Answer
from evc.probes.fields import excerpt, printable, whole
from evc.probes.probe import Before, Probe, Sample


def parse(path: str, text: str) -> float:
    """Read a load, 0..1.

    :raises ParseError: not a number from 0 to 1000
    """
    try:
        return whole(text, most=1000) / 1000
    except ValueError:
        raise ParseError(f"{printable(path, 80)}: {excerpt(text)} is not a number from 0 to 1000") from None


def read(answer: Answer, before: Before | None) -> Sample | None:
    """Return ``gpu_usage_ratio``, 0..1, of the busiest GPU."""
    loads = answer.files("/sys/class/devfreq/", "/device/load")
    if not loads:
        return None
    return Sample(columns={"gpu_usage_ratio": max(parse(path, text) for path, text in loads.items())})


PROBE = Probe(name="gpu", files=("/sys/class/devfreq/*.g*/device/load",), read=read)
