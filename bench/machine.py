"""The machine that figures are of."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path


def describe() -> list[str]:
    """Return what the machine is and what runs on it, a line each."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert memory
    return [
        f"{model[1] if model else platform.machine()}, {len(os.sched_getaffinity(0))} cores,"
        f" {int(memory[1]) / 1024**2:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}",
        f"load before the start: {os.getloadavg()[0]:.2f}",
        ", ".join(f"{name} {version(name)}" for name in ("asyncssh", "sqlalchemy", "apache-airflow", "ansible-core")),
        ", ".join(filter(None, map(_program, (("sshd", "-V"), ("prometheus", "--version"))))),
    ]


def _program(command: tuple[str, str]) -> str:
    """Return the first words a program says of itself; empty where it is not there."""
    found = shutil.which(command[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if not found:
        return ""
    done = subprocess.run([found, command[1]], capture_output=True, text=True, check=False)
    said = re.search(r"OpenSSH_[\w.]+|prometheus, version [\w.]+", done.stdout + done.stderr)
    return said[0] if said else ""
