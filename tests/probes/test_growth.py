"""Whatever a node prints, reading it takes time in proportion to its length: one node can't hold up a sweep."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest

from evc.errors import ParseError
from evc.probes import PROBES
from evc.probes.answer import Answer, Output, parse_answer
from evc.probes.probe import Probe

SIZES = [2**14, 2**16, 2**18, 2**20]  # the last is about what a sweep takes of one node
# of the processor, not of the clock; in proportion it takes well under a second, in the square of the length minutes
MOST_S = 5.0
PIECES = [
    " ", "1", "1 ", "1 1 1 1% ", " 1 1 -", "/", " /", "-", "a", "\\", "\\04", "\\\"", "=", ",", ":", "\x1b", "\0",
    "\n", " \n", "\n1 /1 1 1 1 1 1% /1", "\n1:1 1 1 1 1 1 1 1 1 1 1 1", "\nMemTotal:", "\n==> ", "\n==> /a <==\n",
    "\u00e9", "\n==> @a <==\n", "\n==> @a 1 <==\n", "\n==> @a",
]  # fmt: skip
HEADS = {
    "/etc/os-release": ["PRETTY_NAME="],
    "/proc/loadavg": ["1 1 "],
    "/proc/meminfo": ["MemTotal: "],
    "/proc/net/dev": ["Inter-\n\n", "Inter-\n\neth0:"],
    "/proc/pressure/cpu": ["some ", "some total="],
    "/proc/self/mounts": ["/dev/sda1 ", "/dev/sda1 / ext4 "],
    "/proc/stat": ["cpu "],
    "storage": ["Type \n", "Type \next4 1 1 1 1 1 ", "Filesystem \n", "Filesystem \na ", "Filesystem \na 1 1 1 1% "],
    "throttling": ["throttled=0x"],
}


def check_time(work: Callable[[], object]) -> None:
    begin = time.process_time()
    with suppress(ParseError):
        work()
    assert time.process_time() - begin < MOST_S


def answers(probe: Probe, body: str) -> list[Answer]:
    """Return answers with ``body`` in one place of ``probe`` each, and something short in the others."""
    paths = [path.replace("*", "0") for path in probe.files]
    places = [*paths, *([probe.name] if probe.command else [])]
    found = []
    for place in places:
        for head in ["", *HEADS.get(place, [])]:
            texts = {other: HEADS.get(other, ["1"])[0] for other in places} | {place: head + body}
            outputs = {probe.name: Output(texts[probe.name], 0)} if probe.command else {}
            found.append(Answer({path: texts[path] for path in paths}, outputs))
    return found


@pytest.mark.parametrize("piece", PIECES)
def test_a_probe_reads_in_proportion(piece: str) -> None:
    for size in SIZES:
        body = piece * (size // len(piece))
        for probe in PROBES.values():
            for answer in answers(probe, body):
                check_time(partial(probe.read, answer, None))


@pytest.mark.parametrize("piece", PIECES)
def test_an_answer_is_cut_in_proportion(piece: str) -> None:
    for size in SIZES:
        body = (piece * (size // len(piece))).encode()
        for head in (b"", b"\n==> /a <==\n", b"\n==> ", b"\n==> @", b"\n==> /"):
            check_time(partial(parse_answer, head + body))
