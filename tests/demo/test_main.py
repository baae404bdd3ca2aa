"""The demo's command line where it can't do its work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from demo.process import find
from demo.state import PROJECT, State


def _demo(state: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "EVC_STATE": str(state)}
    command = [sys.executable, "-m", "demo", *argv]
    return subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("argv", [(), ("sideways",), ("node",), ("node", "demo-1"), ("node", "demo-1", "x")])
def test_a_wrong_command_line_is_2(tmp_path: Path, argv: tuple[str, ...]) -> None:
    ran = _demo(tmp_path, *argv)
    assert ran.returncode == 2
    assert "usage: python -m demo" in ran.stderr


def test_nothing_to_stop_is_no_error(tmp_path: Path) -> None:
    ran = _demo(tmp_path / "never", "down")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "nothing to stop" in ran.stdout


def test_down_ends_only_what_was_started_here(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.make_folders()
    started_here = state.launch("demo-1", ["/bin/sleep", "60"], {})
    other = subprocess.Popen(["/bin/sleep", "60"], start_new_session=True)
    try:
        found = find(other.pid)
        assert found
        state.write_record("demo-2", {"pid": other.pid, "started": f"{found.started}0"})  # its pid, another start
        ran = _demo(tmp_path, "down")
        assert (ran.returncode, ran.stderr) == (0, "")
        assert ran.stdout.startswith("stopped 1 processes")
        assert other.poll() is None
        assert started_here.wait(5) != 0
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("command", ["up", "down"])
def test_two_at_once_are_refused(tmp_path: Path, command: str) -> None:
    with State(tmp_path).locked():
        ran = _demo(tmp_path, command)
    assert ran.returncode == 1
    assert ran.stderr.startswith("demo: another make demo")
    assert ran.stderr.count("\n") == 1


def test_a_state_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = _demo(tmp_path / "file", "up")
    assert ran.returncode == 1
    assert ran.stderr.startswith(f"demo: state folder {tmp_path / 'file'}: ")


def test_a_damaged_metrics_database_is_named_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "metrics.db").write_text("not a database, " * 100)
    ran = _demo(tmp_path, "up")
    assert ran.returncode == 1
    assert "metrics.db" in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert State(tmp_path).started("demo-1") is None
