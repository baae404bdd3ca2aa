"""Settings of the environment; model.yaml says the same defaults, docs/smart_farm.md too."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evc.building.source import read_source

Module = Callable[[str], Any]
ROOT = Path(__file__).parents[4]
ENVIRONMENT = read_source(ROOT / "include" / "models", "smart_farm").model.environment


def test_the_defaults_are_those_of_model_yaml(module: Module) -> None:
    read = module("settings").read_settings
    assert read({}) == read(ENVIRONMENT)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("METHOD", "ndvi"),
        ("MAX_SIDE_PX", "10"),
        ("MAX_SIDE_PX", "many"),
        ("INTERVAL_S", "-1"),
        ("INTERVAL_S", "nan"),
        ("DARK_BELOW", "2"),
        ("PICTURE_TIME", "exif"),
    ],
)
def test_a_wrong_one_is_told(module: Module, name: str, text: str) -> None:
    settings = module("settings")
    with pytest.raises(settings.WrongSetting, match=rf"^{name} is '{text}'; allowed: "):
        settings.read_settings({name: text})


def test_the_page_tells_every_setting_with_its_default() -> None:
    page = (ROOT / "docs" / "smart_farm.md").read_text()
    section = page.partition("## Settings")[2].partition("\n## ")[0]
    said = dict(re.findall(r"^\| `([A-Z_]+)` \| (.+?) \|", section, re.MULTILINE))
    assert {name: value.strip("`").replace("none", "") for name, value in said.items()} == ENVIRONMENT


def test_the_page_tells_every_kind_of_line() -> None:
    page = (ROOT / "docs" / "smart_farm.md").read_text()
    section = page.partition("## Lines")[2].partition("\n## ")[0]
    kinds = {result.kind for result in read_source(ROOT / "include" / "models", "smart_farm").model.results}
    assert kinds < set(re.findall(r"`([a-z_]+)`", section))


def test_requirements_are_those_of_the_lock() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    pinned = re.findall(r"^(\S+==\S+) \\\n((?:    --hash=\S+(?: \\)?\n)+)", (
        ROOT / "include" / "models" / "smart_farm" / "requirements.txt"
    ).read_text(), re.MULTILINE)  # fmt: skip
    assert [name.partition("==")[0] for name, _ in pinned] == ["numpy", "opencv-python-headless"]
    for name, hashes in pinned:
        block = re.search(rf"^{re.escape(name)}(?: ;[^\\]*)? \\\n((?:    --hash=\S+(?: \\)?\n)+)", lock, re.MULTILINE)
        assert block, f"{name} is not in requirements.lock"
        assert re.findall(r"sha256:\w+", hashes) == re.findall(r"sha256:\w+", block[1])
