"""A node's answer to one sweep, cut into sections.

The script of a sweep prints files as ``head`` does for several files (``==> PATH <==`` and the content) and commands
as ``==> @NAME <==``, the output, ``==> @NAME STATUS <==``; the last line is ``==> end <==``, or the header of an empty
file where ``head`` came last. Whatever is missing, binary or cut short loses only its own section.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

END_FILE: Final = "/dev/./null"
"""The empty file that ends an answer: no probe and no node spells it so."""
MAX_SECTIONS: Final = 5000
_BEGIN, _END = "\n==> ", " <=="
_COMMAND = re.compile(r"@([a-z_]+)(?: ([0-9]{1,3}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Output:
    """What a command printed.

    :param status: its exit status; None where the answer was cut before it ended
    """

    text: str
    status: int | None


@dataclass(slots=True)
class Answer:
    """Sections of one answer.

    :param complete: the end marker came
    :param thermal_unit: what the node's thermal zones count in: ``millidegree_celsius`` or ``deci_kelvin``
    """

    sections: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, Output] = field(default_factory=dict)
    complete: bool = False
    thermal_unit: str = "millidegree_celsius"

    def file(self, path: str) -> str | None:
        """Return the content of ``path`` without its last newlines; None where the node has no such file."""
        return self.sections.get(path)

    def files(self, begin: str, end: str) -> dict[str, str]:
        """Return the files whose paths begin and end so, by path, in the order the node gave them."""
        return {path: text for path, text in self.sections.items() if path.startswith(begin) and path.endswith(end)}

    def output(self, name: str) -> Output | None:
        """Return what the command of probe ``name`` printed; None where it did not run."""
        return self.outputs.get(name)


def parse_answer(stdout: bytes, thermal_unit: str = "millidegree_celsius") -> Answer:
    """Cut what a node printed into sections. Never raises: junk before the first header is ignored."""
    text = stdout.decode("utf-8", "replace")
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    answer = Answer(thermal_unit=thermal_unit)
    header = ""
    for header, body in _cut(text):
        _put(answer, header, body.rstrip("\n"))
    if not answer.complete:
        # a file that was cut may end in half a number: no reading is better than a wrong one
        answer.sections.pop(header, None)
    return answer


def _cut(text: str) -> Iterator[tuple[str, str]]:
    """Give headers and what follows them; a line that only begins like a header belongs to what it stands in."""
    header = ""
    bodies: list[str] = []
    for piece in ("\n" + text).split(_BEGIN, MAX_SECTIONS)[1:]:
        line, _, body = piece.partition("\n")
        following = line[: -len(_END)] if line.endswith(_END) else ""
        if following[:1] != "/" and following != "end" and not _COMMAND.fullmatch(following):
            bodies.append(piece)
            continue
        if header:
            yield header, _BEGIN.join(bodies)
        header, bodies = following, [body]
    if header:
        yield header, _BEGIN.join(bodies)


def _put(answer: Answer, header: str, body: str) -> None:
    if header in {"end", END_FILE}:
        answer.complete = True
        return
    if header[0] == "/":
        answer.sections.setdefault(header, body)
        return
    name, _, status = header[1:].partition(" ")
    if not status:
        answer.outputs[name] = Output(body, None)
    elif name in answer.outputs:
        answer.outputs[name] = Output(answer.outputs[name].text, int(status))
