"""The script of a sweep: one ``head`` for all files, and the commands that are due.

Few forks and few writes, because those are what a sweep costs a node: every write of the script is a packet of its own
in sshd, and where nothing comes after ``head`` the shell becomes it. The login shell of a node may be anything (csh,
fish, zsh), so the script is handed to ``/bin/sh`` in single quotes and holds neither a single quote, nor a newline, nor
what csh takes for history (``!`` before anything but a space). It is made of the probes' own text: nothing in it came
from a user or a node.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from evc.probes.answer import END_FILE
from evc.probes.probe import Probe

MAX_LINES_PER_FILE = 2000
_UNFIT = re.compile(r"['\n]|![^ ]")


def build_script(probes: Iterable[Probe]) -> str:
    """Return the command line to execute on a node for ``probes``, one line.

    :raises ValueError: a probe's command or condition does not fit between single quotes in every shell
    """
    probes = list(probes)
    files = " ".join(dict.fromkeys(path for probe in probes for path in probe.files))
    head = f"head -n {MAX_LINES_PER_FILE}"
    quick = [_run(probe) for probe in probes if probe.command and not probe.may_hang]
    slow = [_run(probe) for probe in probes if probe.command and probe.may_hang]
    if slow:
        # a command that hangs keeps nothing waiting but what stands behind it.
        # /dev/null makes it two files at least: only then does head name them
        last = [f"{head} /dev/null {files}", *slow, r'printf "\n==> end <==\n"']
    else:
        last = [f"exec {head} {files} {END_FILE}"]
    script = "; ".join(["exec 2>/dev/null", "export LC_ALL=C", *quick, *last])
    if _UNFIT.search(script):
        raise ValueError("a probe's command holds a single quote, a newline or an exclamation mark before no space")
    return f"exec /bin/sh -c '{script}'"


def _run(probe: Probe) -> str:
    run = rf'printf "\n==> @{probe.name} <==\n"; {probe.command}; printf "\n==> @{probe.name} $? <==\n"'
    return f"if {probe.condition}; then {run}; fi" if probe.condition else run
