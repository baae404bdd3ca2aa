"""The process that Ansible runs under."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from evc.hooks import guard


@pytest.mark.parametrize(("size_bytes", "status"), [(guard.MEMORY_BYTES // 8, 0), (guard.MEMORY_BYTES, 1)])
def test_what_needs_too_much_memory_ends(tmp_path: Path, size_bytes: int, status: int) -> None:
    command = [sys.executable, "-c", f"bytearray({size_bytes})"]
    argv = [sys.executable, guard.__file__, str(tmp_path), str(os.getpid()), *command]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stderr
    assert ("MemoryError" in done.stderr) is bool(status)
