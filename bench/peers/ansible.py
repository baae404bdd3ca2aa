"""Ansible as the first Edge Vision Cluster used it: one playbook for each metric, a shell command on every node.

Facts are not gathered and the interpreter is given, both in Ansible's favour. So is the way its processor time is read:
what ``ansible-playbook`` and the children it waits for use; OpenSSH's connections that stay behind are left out.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench.child import BenchError
from bench.fleet import Host, nodes_of

METRICS = {
    "temperature": "cat /sys/devices/virtual/thermal/thermal_zone0/temp || true",
    "cpu": "top -b -n1 | grep -Po '[0-9.]+ id'",
    "memory": "grep Mem /proc/meminfo",
    "storage": "df -P | grep -v ^Filesystem | awk '{sum += $4} END { print sum/1024/1024 }'",
    "network": "cat /proc/net/dev",
}


@dataclass(frozen=True, slots=True)
class Cost:
    """What one playbook costs on average.

    :param cpu_ms: per node and metric, user and system
    :param seconds: per playbook
    """

    cpu_ms: float
    seconds: float
    nodes: int


def measure(folder: Path, host: Host, count: int) -> Cost:
    """Run each playbook once on ``count`` nodes. :raises BenchError: one failed"""
    folder.mkdir()
    _write(folder, host, count)
    before, begun = _children_cpu_s(), time.monotonic()
    for metric in METRICS:
        _play(folder, metric, count)
    runs = len(METRICS)
    return Cost((_children_cpu_s() - before) / runs / count * 1000, (time.monotonic() - begun) / runs, count)


def _write(folder: Path, host: Host, count: int) -> None:
    variables = {
        "ansible_user": host.user,
        "ansible_ssh_private_key_file": str(host.key_file),
        "ansible_python_interpreter": sys.executable,
        "ansible_ssh_common_args": "-F none -o StrictHostKeyChecking=yes"
        f" -o UserKnownHostsFile={folder / 'known_hosts'}",
    }
    nodes = nodes_of(host, count)
    lines = [f"{node.name} ansible_host={node.host} ansible_port={node.port}" for node in nodes]
    (folder / "hosts.ini").write_text("\n".join([*lines, ""]))
    (folder / "known_hosts").write_text("".join(f"[{node.host}]:{node.port} {host.host_key}\n" for node in nodes))
    (folder / "ansible.cfg").touch()
    for metric, command in METRICS.items():
        play = {
            "hosts": "all",
            "gather_facts": False,
            "vars": variables,
            "tasks": [{"ansible.builtin.shell": {"cmd": command}, "register": metric}],
        }
        (folder / f"{metric}.json").write_text(json.dumps([play]))  # JSON is YAML


def _play(folder: Path, metric: str, forks: int) -> None:
    program = Path(sys.executable).with_name("ansible-playbook")
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "ANSIBLE_HOME": str(folder),
        "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
        "LC_ALL": "C.UTF-8",
    }
    done = subprocess.run(
        [sys.executable, program, "-i", folder / "hosts.ini", "-f", str(forks), folder / f"{metric}.json"],
        env=environment, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise BenchError(
            f"ansible-playbook for {metric} ended with {done.returncode}:\n{done.stdout[-1500:]}{done.stderr[-500:]}"
        )


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
