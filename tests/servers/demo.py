"""``python -m demo``, as make runs it."""

from __future__ import annotations

import os
import subprocess
import sys

from demo.state import PROJECT, State


def run_demo(state: State, command: str, **more: str) -> str:
    """Run a command of the demo in a state folder and return what it printed.

    :param more: environment variables beside those of this process
    """
    ran = subprocess.run(
        [sys.executable, "-m", "demo", command],
        cwd=PROJECT,
        env={**os.environ, "EVC_STATE": str(state.folder), **more},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    return ran.stdout
