"""Processor time and memory of processes.

Source: ``/proc/PID/stat`` and ``/proc/PID/status``, proc(5); cgroup v1 ``cpuacct.usage``, cgroup v2 ``cpu.stat``.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_CGROUP_V1 = (Path("/sys/fs/cgroup/cpuacct"), Path("/sys/fs/cgroup/cpu,cpuacct"))
_CGROUP_V2 = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))


def _stat(pid: int) -> tuple[int, float] | None:
    """Return parent and processor seconds, those of ended and waited-for children included."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return int(fields[1]), sum(map(int, fields[11:15])) * _TICK_S


def tree_cpu_s(*roots: int) -> float:
    """Return user and system seconds of processes and of all that descends from them, whether it has ended or not."""
    return sum(_tree(roots).values())


def tree_pids(*roots: int) -> list[int]:
    """Return the pids of processes and of all that descends from them and runs."""
    return list(_tree(roots))


def _tree(roots: Iterable[int]) -> dict[int, float]:
    stats = {
        int(entry.name): stat
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and (stat := _stat(int(entry.name)))
    }
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in stats.items():
        children.setdefault(parent, []).append(pid)
    todo, found = list(roots), dict[int, float]()
    while todo:
        pid = todo.pop(0)
        if pid in stats:
            found[pid] = stats[pid][1]
            todo += children.get(pid, [])
    return found


def memory_mb(pid: int | str = "self", what: str = "VmHWM") -> float:
    """Return resident memory of a process in MB (10^6 bytes): ``VmHWM`` the most so far, ``VmRSS`` now."""
    found = re.search(rf"^{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


class Meter:
    """Processor seconds of a process and all it will start, exactly where a cgroup can be made, else by ``/proc``."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._group = _make_group(pid)

    @property
    def how(self) -> str:
        """What it reads."""
        return "cgroup" if self._group else "/proc, to 10 ms a process"

    def cpu_s(self) -> float:
        """Return user and system seconds so far."""
        if self._group is None:
            return tree_cpu_s(self._pid)
        usage = self._group / "cpuacct.usage"
        if usage.exists():
            return int(usage.read_text()) / 1e9
        return int((self._group / "cpu.stat").read_text().split()[1]) / 1e6

    def close(self) -> None:
        """Remove the cgroup; its processes must have ended."""
        for _ in range(50):
            if self._group is None or not self._group.exists():
                return
            with suppress(OSError):
                self._group.rmdir()
            time.sleep(0.1)


def _make_group(pid: int) -> Path | None:
    v2 = [folder for folder in _CGROUP_V2 if (folder / "cgroup.controllers").exists()]
    for folder in (*_CGROUP_V1, *v2):
        group = folder / f"evc-bench-{os.getpid()}-{pid}"
        try:
            group.mkdir()
            (group / "cgroup.procs").write_text(str(pid))
        except OSError:
            with suppress(OSError):
                group.rmdir()
            continue
        return group
    return None
