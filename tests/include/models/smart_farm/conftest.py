"""The model's modules, as its container imports them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[4] / "include" / "models" / "smart_farm"
Run = Callable[..., tuple[int, list[dict[str, Any]]]]


@pytest.fixture(scope="session")
def module() -> Callable[[str], Any]:
    """Return a module of the model by its name."""
    sys.path.append(str(FOLDER))
    return lambda name: import_module(f"smart_farm.{name}")


@pytest.fixture
def run_model() -> Run:
    """Run it as its container does; returns exit status and lines."""

    def run(given: object = "", **environment: str) -> tuple[int, list[dict[str, Any]]]:
        done = subprocess.run(
            [sys.executable, "-B", "-m", "smart_farm"],
            cwd=FOLDER,
            env={"PATH": os.defpath, "EVC_INPUT": str(given), **environment},
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.stderr == b""
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    return run
