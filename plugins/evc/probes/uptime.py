"""How long the node is up, and which boot this is.

Source: ``/proc/uptime``, proc_uptime(5), and ``/proc/sys/kernel/random/boot_id``, random(4). Any Linux; no privilege
needed. Two readings of one boot id can be subtracted from one another; the difference of uptimes is the time between.
"""

from __future__ import annotations

import re

from evc.errors import ParseError
from evc.probes.answer import Answer
from evc.probes.fields import decimal, excerpt
from evc.probes.probe import Before, Probe, Sample

_UPTIME = "/proc/uptime"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


def parse_uptime(text: str) -> float:
    """Read the seconds since boot, to a hundredth.

    :raises ParseError: it does not begin with a number
    """
    try:
        return round(decimal(text.partition(" ")[0], below=1e10), 2)
    except ValueError:
        raise ParseError(f"{_UPTIME}: {excerpt(text)} does not begin with seconds") from None


def parse_boot_id(text: str) -> str:
    """Read the id that the kernel drew at boot.

    :raises ParseError: it is not a UUID
    """
    if _UUID.fullmatch(text):
        return text
    raise ParseError(f"{_BOOT_ID}: {excerpt(text)} is not a UUID")


def read(answer: Answer, before: Before | None) -> Sample | None:
    """Return ``uptime_s``; counters are ``{"boot_id": str or None, "uptime_s": float or None}``."""
    uptime, boot_id = answer.file(_UPTIME), answer.file(_BOOT_ID)
    if uptime is None and boot_id is None:
        return None
    uptime_s = None if uptime is None else parse_uptime(uptime)
    counters = {"boot_id": None if boot_id is None else parse_boot_id(boot_id), "uptime_s": uptime_s}
    return Sample(columns={"uptime_s": uptime_s}, counters=counters)


PROBE = Probe(name="uptime", files=(_UPTIME, _BOOT_ID), read=read)
