"""A fleet for who tries something by hand: it stays until it is ended."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from tests.servers.edge import running_fleet

_PROJECT = Path(__file__).parents[3]
_TIMEOUT_S = 900  # the first time makes the image of nodes


def _up(folder: Path, nodes: int) -> int:
    """Start a fleet that stays, in a process of its own, and wait for its ``fleet.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        print(f"{folder} is not empty", file=sys.stderr)
        return 1
    command = [sys.executable, "-m", "tests.servers.edge", "keep", "--folder", str(folder), "--nodes", str(nodes)]
    with (folder / "keep.log").open("wb") as log:
        keeper = subprocess.Popen(
            command, cwd=_PROJECT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    summary = folder / "fleet.json"
    deadline = time.monotonic() + _TIMEOUT_S
    try:
        while time.monotonic() < deadline and keeper.poll() is None and not summary.exists():
            time.sleep(0.05)
    finally:
        if not summary.exists():
            keeper.terminate()
    print((summary if summary.exists() else folder / "keep.log").read_text())
    return 0 if summary.exists() else 1


def _keep(folder: Path, nodes: int) -> int:
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with running_fleet(nodes) as fleet:
        written = folder / "fleet.json.part"
        written.write_text(json.dumps({"pid": os.getpid(), "folder": str(fleet.folder), **fleet.summary()}, indent=2))
        written.rename(folder / "fleet.json")
        ended.wait()
    return 0


def _down(folder: Path) -> int:
    """End the fleet of ``folder`` by the pid of its keeper."""
    summary = folder / "fleet.json"
    if not summary.exists():
        print(f"there is no {summary}", file=sys.stderr)
        return 1
    pid = int(json.loads(summary.read_text())["pid"])
    with suppress(FileNotFoundError):
        command = Path(f"/proc/{pid}/cmdline")
        while str(folder) in command.read_text():
            os.kill(pid, signal.SIGTERM)
            time.sleep(0.1)
    shutil.rmtree(folder)
    return 0


def main() -> int:
    """Start or end a fleet for who tries something by hand."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers.edge", description=__doc__)
    parser.add_argument("action", choices=["up", "down", "keep"])
    parser.add_argument("--folder", type=lambda text: Path(text).absolute(), required=True)
    parser.add_argument("--nodes", type=int, default=3, help="edge nodes beside the builder; default 3")
    given = parser.parse_args()
    if given.action == "down":
        return _down(given.folder)
    return (_up if given.action == "up" else _keep)(given.folder, given.nodes)


if __name__ == "__main__":
    sys.exit(main())
