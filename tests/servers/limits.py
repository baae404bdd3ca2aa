"""Real limits of the operating system for tests: a full disk, a user who may not."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NOBODY = 65534


@contextmanager
def file_size_limit(max_bytes: int) -> Iterator[None]:
    """Let this process write no file beyond ``max_bytes``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[str]:
    """Make ``folder`` a disk of its own, of ``size_bytes``; yields what the system says when it is full.

    A tmpfs where this user may mount one. Else files may not grow beyond the size: another error number, as real.
    """
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "evc-test", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        try:
            yield "No space left on device"
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
        return
    with file_size_limit(size_bytes):
        yield "File too large"


@contextmanager
def not_root() -> Iterator[None]:
    """Open files as a user who is not root, so that permissions count. Changes nothing for who is not root anyway."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(_NOBODY)
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
