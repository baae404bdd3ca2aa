"""What hardly changes: processor, system, board, memory, container engine.

Source: ``uname -m``, os-release(5), ``/proc/sys/kernel/osrelease``, the device tree's ``model`` or else DMI's vendor
and product, ``/sys/devices/system/cpu/present``, ``/proc/meminfo``, and ``docker version``. No privilege needed but for
the last: where the login may not use the engine, its version stays unknown.
"""

from __future__ import annotations

import re

from evc.errors import ParseError
from evc.probes import memory
from evc.probes.answer import Answer
from evc.probes.fields import excerpt, printable, whole
from evc.probes.probe import Before, Probe, Sample, Value

_OS_RELEASE = "/etc/os-release"
_KERNEL = "/proc/sys/kernel/osrelease"
_DEVICE_TREE = "/proc/device-tree/model"
_DMI = ("/sys/class/dmi/id/sys_vendor", "/sys/class/dmi/id/product_name")
_CPUS = "/sys/devices/system/cpu/present"
_MAX_TEXT = 200
_MAX_CPUS = 2**16
_ESCAPE = re.compile(r"\\([\"'$`\\])")
_ARCH = re.compile(r"[a-z0-9_]{1,32}", re.ASCII | re.IGNORECASE)
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+~-]{0,63}", re.ASCII)


def parse_os_release(text: str) -> str | None:
    """Read the name that a distribution gives itself, e.g. ``Ubuntu 22.04.5 LTS``; None where it gives none."""
    names = {}
    for line in text.split("\n"):
        key, _, value = line.partition("=")
        names[key] = _ESCAPE.sub(r"\1", value.strip().strip("\"'"))
    return printable(names.get("PRETTY_NAME") or names.get("NAME") or "", _MAX_TEXT) or None


def parse_cpus(text: str) -> int:
    """Read how many processors a list such as ``0-3,6`` has.

    :raises ParseError: not such a list
    """
    count = 0
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            count += whole(last if dash else first, _MAX_CPUS) - whole(first, _MAX_CPUS) + 1
    except ValueError:
        count = 0
    if not 0 < count <= _MAX_CPUS:
        raise ParseError(f"{_CPUS}: {excerpt(text)} is not a list of processors")
    return count


def parse_output(text: str) -> tuple[str | None, str | None]:
    """Read architecture and engine version from what the command printed; None for what it did not say."""
    arch, _, version = text.partition("\n")
    version = version.strip()
    return arch if _ARCH.fullmatch(arch) else None, version if _VERSION.fullmatch(version) else None


def _text(answer: Answer, path: str) -> str:
    # the device tree ends its strings with NUL
    return printable((answer.file(path) or "").strip("\0 \n"), _MAX_TEXT)


def read(answer: Answer, before: Before | None) -> Sample | None:
    """Return the facts of a node: columns of ``nodes``; None for what the node does not say."""
    output = answer.output("facts")
    if output is None or output.status is None:
        return None  # half of the facts is not to stand for all of them until they are due again
    arch, engine_version = parse_output(output.text)
    os_release, cpus, meminfo = answer.file(_OS_RELEASE), answer.file(_CPUS), answer.file(memory.PATH)
    dmi = " ".join(filter(None, (_text(answer, path) for path in _DMI)))
    facts: dict[str, Value] = {
        "arch": arch,
        "os": parse_os_release(os_release) if os_release else None,
        "kernel": _text(answer, _KERNEL) or None,
        "board_model": _text(answer, _DEVICE_TREE) or dmi or None,
        "cpu_count": parse_cpus(cpus) if cpus else None,
        "memory_bytes": memory.parse(meminfo, "MemTotal") if meminfo else None,
        "engine_version": engine_version,
    }
    return Sample(facts=facts)


PROBE = Probe(
    name="facts",
    files=(_OS_RELEASE, _KERNEL, _DEVICE_TREE, *_DMI, _CPUS, memory.PATH),
    command='uname -m || echo; command -v docker >/dev/null && docker version --format "{{.Server.Version}}"',
    may_hang=True,
    interval_s=86400,
    read=read,
)
