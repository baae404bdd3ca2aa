"""Memory and swap.

Source: ``/proc/meminfo``, proc_meminfo(5). Any Linux; no privilege needed. ``MemAvailable`` came with Linux 3.14: where
it is not there it is not estimated. Memory used is total less available.
"""

from __future__ import annotations

from evc.errors import ParseError
from evc.probes.answer import Answer
from evc.probes.fields import MAX_KIBIBYTES, excerpt, whole
from evc.probes.probe import Before, Probe, Sample, Value

PATH = "/proc/meminfo"
_COLUMNS = {
    "MemTotal": "memory_total_bytes",
    "MemFree": "memory_free_bytes",
    "MemAvailable": "memory_available_bytes",
    "SwapTotal": "swap_total_bytes",
    "SwapFree": "swap_free_bytes",
}


def parse(text: str, key: str) -> int | None:
    """Read the line ``key`` in bytes; None where there is no such line.

    :raises ParseError: the line is not a number of kB
    """
    text = "\n" + text
    begin = text.find(f"\n{key}:")
    if begin < 0:
        return None
    line = text[begin + 1 : text.find("\n", begin + 1) % (len(text) + 1)]
    try:
        number, unit = line[len(key) + 1 :].split()
        if unit == "kB":
            return whole(number, MAX_KIBIBYTES) * 1024
    except ValueError:
        pass
    raise ParseError(f"{PATH}: {excerpt(line)} is not a number of kB")


def read(answer: Answer, before: Before | None) -> Sample | None:
    """Return memory and swap in bytes: ``memory_total_bytes`` ... ``swap_free_bytes``."""
    text = answer.file(PATH)
    if text is None:
        return None
    columns: dict[str, Value] = {column: parse(text, key) for key, column in _COLUMNS.items()}
    if columns["memory_total_bytes"] is None:
        raise ParseError(f"{PATH}: {excerpt(text)} has no MemTotal")
    # a container of some kinds says 0, of which nothing is a share
    columns["memory_total_bytes"] = columns["memory_total_bytes"] or None
    return Sample(columns=columns)


PROBE = Probe(name="memory", files=(PATH,), read=read)
