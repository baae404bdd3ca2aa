"""The state folder of the demo."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from demo.state import PROJECT, DemoError, State, default_state, write_private


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_nobody_else_reads_the_state(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    state.make_folders()
    state.make_keys(("a",))
    state.secrets()
    assert _mode(state.folder) == 0o700
    assert {_mode(path) for path in (state.key, state.host_key("a"), state.passwords)} == {0o600}


def test_keys_and_secrets_are_made_once(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.make_folders()
    state.make_keys(("a",))
    first = (state.key.read_text(), state.host_key("a").read_text(), state.secrets())
    state.make_keys(("a",))
    assert (state.key.read_text(), state.host_key("a").read_text(), state.secrets()) == first


@pytest.mark.parametrize("broken", ["", "{", "[1]", '{"password": "old"}'])
def test_broken_secrets_are_made_anew(tmp_path: Path, broken: str) -> None:
    state = State(tmp_path)
    state.make_folders()
    (tmp_path / "run" / "secrets.json").write_text(broken)
    made = state.secrets()
    assert sorted(made) == ["api_secret", "fernet_key", "jwt_secret", "password"]
    assert json.loads(state.passwords.read_text()) == {"admin": made["password"]}
    assert state.secrets() == made


def test_a_file_is_replaced_whole_and_stays_private(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "새로운")
    assert path.read_text(encoding="utf-8") == "새로운"
    assert _mode(path) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_one_at_a_time(tmp_path: Path) -> None:
    state = State(tmp_path)
    with state.locked(), pytest.raises(DemoError, match="another make demo"), state.locked():
        pass
    with state.locked():
        pass


def test_a_state_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DemoError, match="file/state: Not a directory"):
        State(tmp_path / "file" / "state").make_folders()


def test_the_environment_may_name_another_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EVC_STATE", str(tmp_path))
    assert default_state().folder == tmp_path
    monkeypatch.setenv("EVC_STATE", "")
    assert default_state().folder == PROJECT / ".evc"
