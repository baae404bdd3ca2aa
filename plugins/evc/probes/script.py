"""The script of a sweep: one ``head`` for all files, then the commands that are due.

Few forks, because that is what a sweep costs a node. The login shell of a node may be anything (csh, fish, zsh), so the
script is handed to ``/bin/sh`` in single quotes and holds neither a single quote nor a newline.
"""

from __future__ import annotations

from collections.abc import Iterable

from evc.probes.probe import Probe

MAX_LINES_PER_FILE = 2000


def build_script(probes: Iterable[Probe]) -> str:
    """Return the command line to execute on a node for ``probes``. It holds nothing that came from a user or a node."""
    probes = list(probes)
    files = [path for probe in probes for path in probe.files]
    parts = ["LC_ALL=C", "export LC_ALL"]
    if files:
        # /dev/null makes it two files at least: only then does head name them
        parts.append(f"head -n {MAX_LINES_PER_FILE} /dev/null {' '.join(dict.fromkeys(files))} 2>/dev/null")
    for probe in probes:
        if probe.command:
            parts.append(f'echo; echo "==> !{probe.name} <=="')
            parts.append(f'{probe.command}; s=$?; echo; echo "==> !{probe.name} $s <=="')
    parts.append('echo "==> end <=="')
    script = "; ".join(parts)
    if "'" in script or "\n" in script:
        raise ValueError("a probe's command holds a single quote or a newline")
    return f"exec /bin/sh -c '{script}'"
