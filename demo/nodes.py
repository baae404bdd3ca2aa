"""The three nodes of the demo: their processes, and what they are registered as."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from demo.server import ADDRESS
from demo.state import DemoError, State

START_TIMEOUT_S = 30.0
PORTS = range(2201, 2300)


@dataclass(frozen=True, slots=True)
class DemoNode:
    """What ``register_node`` is told of a node."""

    name: str
    address: str
    site: str

    def conf(self, port: int) -> dict[str, object]:
        """Return the conf of its ``register_node`` run."""
        return {
            "name": self.name,
            "host": ADDRESS,
            "port": port,
            "groups": ["demo"],
            "address": self.address,
            "labels": {"site": self.site},
        }


FLEET = (
    DemoNode("demo-1", "경기도 수원시 영통구", "Suwon"),
    DemoNode("demo-2", "부산광역시 해운대구", "Busan"),
    DemoNode("demo-3", "제주특별자치도 제주시", "Jeju"),
)


def _answers(port: int) -> bool:
    """Whether an SSH server greets at ``port``."""
    try:
        with socket.create_connection((ADDRESS, port), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _running_port(state: State, node: DemoNode) -> int | None:
    port = state.running_port(node.name)
    return port if port and _answers(port) else None


def _start(state: State, node: DemoNode, ports: Sequence[int]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "demo", "node", node.name, *map(str, ports)]
    return state.launch(
        node.name, command, {"EVC_STATE": str(state.folder), "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
    )


def _wait(state: State, node: DemoNode, child: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise DemoError(f"node {node.name} ended at its start: {state.log_end(node.name, lines=1)}")
        port = _running_port(state, node)
        if port:
            return port
        time.sleep(0.05)
    raise DemoError(f"node {node.name} did not start within {START_TIMEOUT_S:.0f} s: see {state.log(node.name)}")


def start_nodes(state: State, registered: Mapping[str, int]) -> dict[str, int]:
    """Start the nodes that do not run, or not where they are registered; return the port of each by name.

    :param registered: ports by name, from the metrics database
    :raises DemoError: one did not start
    """
    ports: dict[str, int] = {}
    started: dict[DemoNode, subprocess.Popen[bytes]] = {}
    for index, node in enumerate(FLEET):
        port = _running_port(state, node)
        if port is not None and registered.get(node.name, port) == port:
            ports[node.name] = port
            continue
        state.stop(node.name)
        free = PORTS[index :: len(FLEET)]  # no two nodes try the same one
        started[node] = _start(state, node, [registered[node.name]] if node.name in registered else free)
    return ports | {node.name: _wait(state, node, child) for node, child in started.items()}
