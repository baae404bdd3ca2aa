"""Which platforms a builder can build for: its own, and those for which its kernel starts an emulator.

Source: uname(2) ``machine``; Linux, Documentation/admin-guide/binfmt-misc.rst; ELF, ``e_machine``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from evc.errors import InputError
from evc.ssh.session import Ended, Session

HANDLERS_COMMAND = "sh -c 'for f in /proc/sys/fs/binfmt_misc/*; do echo; cat \"$f\"; done' 2>/dev/null"
_TIMEOUT_S = 20.0

_MACHINES = {
    "x86_64": "amd64",
    "amd64": "amd64",
    "aarch64": "arm64",
    "arm64": "arm64",
    "armv7l": "arm",
    "armv6l": "arm",
    "armhf": "arm",
    "arm": "arm",
}
_ELF = {62: "amd64", 183: "arm64", 40: "arm"}
_QEMU = {"amd64": "qemu-x86_64", "arm64": "qemu-aarch64", "arm": "qemu-arm"}


def architecture_of(machine: str) -> str:
    """Return the architecture as Docker names it, e.g. ``amd64`` of ``x86_64``."""
    return _MACHINES.get(machine, machine)


def architecture(platform: str) -> str:
    """Return ``arm64`` of ``linux/arm64``."""
    return platform.split("/")[1]


def emulated(handlers: str) -> set[str]:
    """Return the architectures whose programs the kernel hands to an emulator, inside of containers too.

    :param handlers: the files of ``/proc/sys/fs/binfmt_misc``, an empty line before each
    """
    found = set()
    for handler in re.split(r"\n\s*\n", handlers):
        lines = dict(line.partition(" ")[::2] for line in handler.strip().splitlines())
        magic = lines.get("magic", "")
        # F: the emulator is opened beforehand, so it is there for containers, which do not see the builder's files
        if "enabled" in lines and "F" in lines.get("flags:", "") and magic.startswith("7f454c46") and len(magic) >= 40:
            machine = _ELF.get(int.from_bytes(bytes.fromhex(magic[36:40]), "little"))
            found |= {machine} if machine else set()
    return found


def check_platform(builder: str, native: str, platform: str, handlers: str) -> None:
    """Return where the builder can build for ``platform``.

    :param native: architecture of the builder's engine
    :raises InputError: it can't; the message says what to do
    """
    wanted = architecture(platform)
    if wanted == native or wanted in emulated(handlers):
        return
    raise InputError(
        "platform",
        f"{builder} is {native} and its kernel has no handler that runs {wanted} programs in containers",
        f"linux/{native}; or a builder that is {wanted}; or install {_QEMU.get(wanted, 'an emulator')} there"
        " (binfmt_misc, flag F)",
    )


def check_architecture(where: str, wanted: str, allowed: Iterable[str]) -> None:
    """Return where the model can be built for ``wanted``. :raises InputError: its model.yaml says otherwise"""
    architectures = list(allowed)
    if wanted not in architectures:
        raise InputError(where, f"the model is not made for {wanted}", f"its architectures: {', '.join(architectures)}")


async def read_handlers(session: Session) -> str:
    """Return what :func:`emulated` reads; empty where the node has nothing of the kind.

    :raises NodeError: the node did not answer
    """
    reply = await session.run(HANDLERS_COMMAND, timeout_s=_TIMEOUT_S)
    return reply.stdout.decode("utf-8", "replace") if reply.ended is Ended.EXIT else ""
