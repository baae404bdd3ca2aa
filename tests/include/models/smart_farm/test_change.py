"""What was seen before."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Module = Callable[[str], Any]


def test_in_memory(module: Module) -> None:
    change = module("change")
    last = change.LastSeen("rtsp://camera", None)
    assert last.replace(change.Seen(1.0, 0.5)) is None
    assert last.replace(change.Seen(2.0, 0.4)) == change.Seen(1.0, 0.5)


def test_in_a_file_over_runs_each_input_its_own(module: Module, tmp_path: Path) -> None:
    change, file = module("change"), tmp_path / "state.json"
    change.LastSeen("/a", file).replace(change.Seen(1.0, 0.5))
    change.LastSeen("/b", file).replace(change.Seen(None, 0.7))
    assert change.LastSeen("/a", file).replace(change.Seen(3.0, 0.2)) == change.Seen(1.0, 0.5)
    assert change.LastSeen("/b", file).replace(change.Seen(3.0, 0.2)) == change.Seen(None, 0.7)
    assert change.LastSeen("/a", file).replace(change.Seen(4.0, 0.1)) == change.Seen(3.0, 0.2)


def test_a_login_is_not_in_the_file(module: Module, tmp_path: Path) -> None:
    change, file = module("change"), tmp_path / "state.json"
    change.LastSeen("rtsp://me:secret@camera", file).replace(change.Seen(1.0, 0.5))
    assert "secret" not in file.read_text()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', '{"a": ["x", "y"]}', "\xff", '{"a": [1]}'])
def test_a_file_that_is_not_ours_begins_anew(module: Module, tmp_path: Path, text: str) -> None:
    change, file = module("change"), tmp_path / "state.json"
    file.write_text(text)
    assert change.LastSeen("/a", file).replace(change.Seen(1.0, 0.5)) is None
    assert len(json.loads(file.read_text())) == 1


def test_a_file_that_can_not_be_written(module: Module, tmp_path: Path) -> None:
    change = module("change")
    with pytest.raises(OSError, match="No such file"):
        change.LastSeen("/a", tmp_path / "none" / "state.json").replace(change.Seen(1.0, 0.5))
