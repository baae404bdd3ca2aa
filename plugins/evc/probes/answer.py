"""A node's answer to one sweep, cut into sections.

The script of a sweep prints files as ``head`` does for several files (``==> PATH <==`` and the content) and commands as
``==> !NAME <==``, the output, ``==> !NAME STATUS <==``; the last line is ``==> end <==``. Whatever is missing, binary or
cut short loses only its own section.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

_HEADER = re.compile(r"^==> (?:(/[^\n]*?)|!(\w+)(?: (\d+))?|(end)) <==$", re.MULTILINE)


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
        """Return the content of ``path`` without its last newline; None where the node has no such file."""
        return self.sections.get(path)

    def files(self, glob: str) -> dict[str, str]:
        """Return the files that match ``glob``, by path, in the order the node gave them."""
        return {path: text for path, text in self.sections.items() if fnmatchcase(path, glob)}

    def output(self, name: str) -> Output | None:
        """Return what the command of probe ``name`` printed; None where it did not run."""
        return self.outputs.get(name)


def parse_answer(stdout: bytes, thermal_unit: str = "millidegree_celsius") -> Answer:
    """Cut what a node printed into sections. Never raises: junk before the first header is ignored."""
    text = stdout.decode("utf-8", "replace").replace("\r\n", "\n")
    answer = Answer(thermal_unit=thermal_unit)
    headers = list(_HEADER.finditer(text))
    for header, following in zip(headers, [*headers[1:], None], strict=True):
        body = text[header.end() + 1 : following.start() if following else len(text)]
        path, command, status, end = header.groups()
        if end:
            answer.complete = True
        elif path:
            answer.sections.setdefault(path, body.rstrip("\n"))
        elif status is None:
            answer.outputs[command] = Output(body.rstrip("\n"), None)
        elif command in answer.outputs:
            answer.outputs[command] = Output(answer.outputs[command].text, int(status))
    if headers and not answer.complete:
        # a file that was cut may end in half a number: no reading is better than a wrong one
        answer.sections.pop(headers[-1].group(1), None)
    return answer
