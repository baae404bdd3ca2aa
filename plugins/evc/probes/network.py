"""Traffic, errors and drops of each network interface.

Source: ``/proc/net/dev``, proc_pid_net(5). Any Linux; no privilege needed. Left out: ``lo`` and what containers add
(``veth*``, ``docker*``, ``br-*``), whose bytes pass a real interface too, and interfaces that never saw a packet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from evc.errors import ParseError
from evc.probes.answer import Answer
from evc.probes.fields import excerpt, printable, whole
from evc.probes.probe import Before, Probe, Sample, Value
from evc.probes.rates import byte_increase, increase

_PATH = "/proc/net/dev"
_LEFT_OUT = ("veth", "docker", "br-")
_MAX_INTERFACES: Final = 64
_MAX_BYTES_PER_S: Final = 1e11  # beyond any link: then the driver's counter jumped
_RECEIVE_PACKETS, _TRANSMIT_PACKETS = 1, 5


def parse(text: str) -> dict[str, list[int]]:
    """Read the interfaces that count.

    :return: by name, since boot: bytes, packets, errors, drops received; bytes, packets, errors, drops transmitted
    :raises ParseError: no table, or a line of it that is not an interface and at least twelve numbers
    """
    interfaces: dict[str, list[int]] = {}
    if not text.startswith("Inter-"):
        raise ParseError(f"{_PATH}: {excerpt(text)} is not the table of interfaces")
    for line in text.split("\n")[2:]:
        name, colon, counters = line.rpartition(":")
        name = name.strip()
        if name == "lo" or name.startswith(_LEFT_OUT):
            continue
        fields = counters.split()
        try:
            if not colon or not name or len(fields) < 12:
                raise ValueError
            numbers = [whole(field) for field in (*fields[:4], *fields[8:12])]
        except ValueError:
            raise ParseError(f"{_PATH}: {excerpt(line)} is not an interface and its counters") from None
        if numbers[_RECEIVE_PACKETS] or numbers[_TRANSMIT_PACKETS]:
            interfaces[printable(name, 64)] = numbers
        if len(interfaces) == _MAX_INTERFACES:
            break
    return interfaces


def rates(previous: Sequence[int], current: Sequence[int], elapsed_s: float) -> dict[str, float | None]:
    """Return a row of ``network_samples`` less its interface; None for a rate that nobody can tell."""
    row: dict[str, float | None] = {}
    for offset, direction in ((0, "receive"), (4, "transmit")):
        then, now = previous[offset : offset + 4], current[offset : offset + 4]
        grown = byte_increase(then[0], now[0], increase(then[1], now[1]))
        errors, drops = increase(then[2], now[2]), increase(then[3], now[3])
        row[f"{direction}_bytes_per_s"] = _per_second(grown, elapsed_s)
        row[f"{direction}_errors_per_s"] = _per_second(errors, elapsed_s)
        row[f"{direction}_drops_per_s"] = _per_second(drops, elapsed_s)
    return row


def _per_second(grown: int | None, elapsed_s: float) -> float | None:
    if grown is None:
        return None
    rate = grown / elapsed_s
    return rate if rate <= _MAX_BYTES_PER_S else None


def read(answer: Answer, before: Before | None) -> Sample | None:
    """Return the totals ``network_receive_bytes_per_s`` and ``network_transmit_bytes_per_s``, and a row per interface.

    From the second reading on; a total is None where the rate of an interface that counts in it is not known.
    """
    text = answer.file(_PATH)
    if text is None:
        return None
    interfaces = parse(text)
    if not before:
        return Sample(counters=interfaces)
    rows: list[dict[str, Value]] = [
        {"interface": name, **rates(before.counters[name], counters, before.elapsed_s)}
        for name, counters in interfaces.items()
        if name in before.counters
    ]
    columns: dict[str, Value] = {}
    for direction in ("receive", "transmit"):
        known = [rate for row in rows if isinstance(rate := row[f"{direction}_bytes_per_s"], float)]
        columns[f"network_{direction}_bytes_per_s"] = sum(known) if rows and len(known) == len(rows) else None
    return Sample(columns=columns, details={"network_samples": rows}, counters=interfaces)


PROBE = Probe(name="network", files=(_PATH,), read=read)
