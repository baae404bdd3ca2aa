"""Space and inodes of each local disk.

Source: ``df`` of coreutils, else POSIX ``df -kP`` and ``df -i`` (busybox), and ``/proc/self/mounts``, fstab(5). Any
Linux; no privilege needed. One row per device; without file systems of memory, images and other machines, and without
what the container engine mounts. A ``df`` that hangs (a dead disk, a lost server) costs only this probe.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from evc.errors import ParseError
from evc.probes.answer import Answer
from evc.probes.fields import MAX_KIBIBYTES, excerpt, printable, whole
from evc.probes.probe import Before, Probe, Sample, Value

_MOUNTS = "/proc/self/mounts"
_LEFT_OUT = frozenset(
    {"overlay", "squashfs", "tmpfs", "devtmpfs", "ramfs", "efivarfs", "nfs", "nfs4", "cifs", "smb3", "fuse.sshfs"}
)
_ENGINE = "/var/lib/docker"
_MAX_DEVICES: Final = 64
# the columns of POSIX df after the device: three numbers, a percentage, the mountpoint; names may hold spaces.
# A try begins only where a number does and gives nothing back, so a line is read four times at most
_POSIX = re.compile(r"(?<=\s)([0-9]++)\s++([0-9]++)\s++(-?[0-9]++)\s++(?:[0-9]++%|-)\s++(/.*)$", re.ASCII)
_ESCAPE = re.compile(r"\\([0-7]{3})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of ``/proc/self/mounts``."""

    device: str
    filesystem: str
    read_only: bool


@dataclass(slots=True)
class Usage:
    """A line of ``df``: KiB, and inodes where the file system has such."""

    total_kib: int
    used_kib: int
    available_kib: int
    inodes_total: int | None = None
    inodes_free: int | None = None


def parse_mounts(text: str) -> dict[str, Mount]:
    """Read what is mounted, by mountpoint; of several mounts in one place the last one counts."""
    mounts = {}
    for line in text.split("\n"):
        fields = line.split(" ")
        if len(fields) >= 4:
            device, mountpoint, filesystem, options = fields[:4]
            mounts[_unescape(mountpoint)] = Mount(_unescape(device), filesystem, "ro" in options.split(","))
    return mounts


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text) if "\\" in text else text


def parse_df(text: str) -> dict[str, Usage]:
    """Read the output of either ``df``, by mountpoint.

    :raises ParseError: no table, or a line that is not of one
    """
    if text.startswith("Type "):
        return _coreutils(text)
    if text.startswith("Filesystem "):
        return _posix(text)
    raise ParseError(f"df: {excerpt(text)} is not a table of file systems")


def _coreutils(text: str) -> dict[str, Usage]:
    usages = {}
    for line in text.split("\n")[1:]:
        fields = line.split(None, 6)
        if len(fields) != 7:
            raise ParseError(f"df: {excerpt(line)} is not a file system and its numbers")
        if "-" in fields[1:4]:
            continue  # statfs failed or does not apply
        usage = _usage(line, *fields[1:4])
        usage.inodes_total, usage.inodes_free = _inodes(fields[4], fields[5])
        usages[fields[6]] = usage
    return usages


def _posix(text: str) -> dict[str, Usage]:
    blocks, _, inodes = text.partition("\nFilesystem ")
    usages = {}
    for line in blocks.split("\n")[1:]:
        match = _POSIX.search(line)
        if match:
            usages[match[4]] = _usage(line, match[1], match[2], match[3])
    for line in inodes.split("\n")[1:]:
        match = _POSIX.search(line)
        if match and match[4] in usages:
            usage = usages[match[4]]
            usage.inodes_total, usage.inodes_free = _inodes(match[1], match[3])
    return usages


def _usage(line: str, total: str, used: str, available: str) -> Usage:
    try:
        # what is left to users is less than nothing where root has used its reserve
        left = 0 if available.startswith("-") else whole(available, MAX_KIBIBYTES)
        return Usage(whole(total, MAX_KIBIBYTES), whole(used, MAX_KIBIBYTES), left)
    except ValueError:
        raise ParseError(f"df: {excerpt(line)} is not a file system and its numbers") from None


def _inodes(total: str, free: str) -> tuple[int | None, int | None]:
    try:
        numbers = whole(total, 2**53), whole(free, 2**53)
    except ValueError:
        return None, None
    return numbers if numbers[0] else (None, None)


def select(usages: Mapping[str, Usage], mounts: Mapping[str, Mount]) -> list[dict[str, Value]]:
    """Return rows of ``storage_samples``, one per device: of several mountpoints the shortest."""
    rows: dict[str, dict[str, Value]] = {}
    for mountpoint in sorted(usages, key=len):
        usage, mount = usages[mountpoint], mounts.get(mountpoint)
        if mount is None or mount.filesystem in _LEFT_OUT or usage.total_kib == 0 or mount.device in rows:
            continue
        if mountpoint == _ENGINE or mountpoint.startswith(_ENGINE + "/"):
            continue
        rows[mount.device] = {
            "mountpoint": printable(mountpoint, 255),
            "device": printable(mount.device, 255),
            "filesystem": printable(mount.filesystem, 32),
            "total_bytes": usage.total_kib * 1024,
            "used_bytes": usage.used_kib * 1024,
            "available_bytes": usage.available_kib * 1024,
            "inodes_total": usage.inodes_total,
            "inodes_free": usage.inodes_free,
            "read_only": mount.read_only,
        }
    return list({row["mountpoint"]: row for row in rows.values()}.values())[:_MAX_DEVICES]


def read(answer: Answer, before: Before | None) -> Sample | None:
    """Return ``storage_*_bytes`` of all devices together, and a row of ``storage_samples`` for each."""
    output, mounts = answer.output("storage"), answer.file(_MOUNTS)
    if output is None or output.status is None or mounts is None:
        return None
    if output.status == 127:
        raise ParseError("df: is not there")
    rows = select(parse_df(output.text), parse_mounts(mounts)) if output.text else []
    columns: dict[str, Value] = {}
    if rows:
        for column in ("total_bytes", "used_bytes", "available_bytes"):
            columns[f"storage_{column}"] = sum(value for row in rows if isinstance(value := row[column], int))
    return Sample(columns=columns, details={"storage_samples": rows})


PROBE = Probe(
    name="storage",
    files=(_MOUNTS,),
    # what -x names is not even looked at; a df that does not know --output answers nothing on stdout
    command=(
        "o=$(df -kl -x overlay -x squashfs -x tmpfs -x devtmpfs --output=fstype,size,used,avail,itotal,iavail,target); "
        r'case $o in Type*) printf "%s\n" "$o";; *) df -kP; df -iP;; esac'
    ),
    may_hang=True,
    interval_s=300,
    read=read,
)
