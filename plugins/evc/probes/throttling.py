"""Whether a Raspberry Pi is slowed down, and whether it was since boot: under-voltage, capped frequency, heat.

Source: ``/sys/devices/platform/soc/soc:firmware/get_throttled`` of the Raspberry Pi kernel (hexadecimal), else
``vcgencmd get_throttled`` (``throttled=0x50005``), which needs the group ``video``. Bits 0-3 are now, 16-19 are since
boot. The kernel's own monitor clears the latter in the firmware now and then, so what was seen once on this boot is
kept.
"""

from __future__ import annotations

import re

from evc.errors import ParseError
from evc.probes.answer import Answer
from evc.probes.fields import excerpt
from evc.probes.probe import Before, Probe, Sample

_PATH = "/sys/devices/platform/soc/soc:firmware/get_throttled"
_NOW, _SINCE_BOOT = 0xF, 0xF0000
_SYSFS = re.compile(r"([0-9a-f]{1,8})", re.ASCII)
_VCGENCMD = re.compile(r"throttled=0x([0-9a-fA-F]{1,8})", re.ASCII)


def parse(answer: Answer) -> int | None:
    """Read the bits; None where the node is no Raspberry Pi.

    :raises ParseError: not a hexadecimal number, or vcgencmd did not give one
    """
    source, text, form = _PATH, answer.file(_PATH), _SYSFS
    if text is None:
        output = answer.output("throttling")
        if output is None or output.status is None:
            return None
        source, text, form = "vcgencmd get_throttled", output.text, _VCGENCMD
    match = form.fullmatch(text)
    if match is None:
        raise ParseError(f"{source}: {excerpt(text)} is not what it gives on a Raspberry Pi")
    return int(match[1], 16)


def read(answer: Answer, before: Before | None) -> Sample | None:
    """Return ``throttled`` and ``throttled_since_boot``, 1 or 0."""
    bits = parse(answer)
    if bits is None:
        return None
    was = before is not None and before.counters == 1
    now, since_boot = int(bits & _NOW > 0), int(was or bits & (_NOW | _SINCE_BOOT) > 0)
    return Sample(columns={"throttled": now, "throttled_since_boot": since_boot}, counters=since_boot)


PROBE = Probe(
    name="throttling",
    files=(_PATH,),
    condition=f"! test -e {_PATH} && command -v vcgencmd >/dev/null",
    command="vcgencmd get_throttled",
    read=read,
)
