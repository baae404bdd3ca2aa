"""The cache that test fleets are made from: made once, whole or not at all."""

from __future__ import annotations

import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.servers import cache

RECIPE = 'set -e; mkdir "$1"; echo made >>"$XDG_CACHE_HOME/log"; sleep 0.1; echo {} >"$1/file"; {}'


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe that takes a moment, in a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cache, "RECIPES", tmp_path)
    file = tmp_path / "small.sh"
    file.write_text(RECIPE.format("one", "exit 0"))
    return file


def content(archive: Path) -> bytes:
    """Return what the recipe wrote."""
    with tarfile.open(archive) as tar:
        file = tar.extractfile("./file")
        assert file
        return file.read()


def names(folder: Path) -> list[str]:
    """Return what is in the cache."""
    return sorted(path.name for path in (folder / "evc").iterdir())


def test_who_comes_together_finds_one(recipe: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        archives = set(pool.map(cache.packed_root, ["small.sh"] * 4))
    assert len(archives) == 1
    assert content(archives.pop()) == b"one\n"
    assert (tmp_path / "log").read_text() == "made\n"


def test_another_recipe_takes_the_place_of_the_former(recipe: Path, tmp_path: Path) -> None:
    former = cache.packed_root("small.sh")
    recipe.write_text(RECIPE.format("two", "exit 0"))
    assert content(cache.packed_root("small.sh")) == b"two\n"
    assert not former.exists()


def test_one_that_fails_leaves_nothing_and_says_why(recipe: Path, tmp_path: Path) -> None:
    recipe.write_text(RECIPE.format("one", "echo no room >&2; exit 7"))
    with pytest.raises(RuntimeError, match=r"small\.sh ended with 7: no room"):
        cache.packed_root("small.sh")
    assert names(tmp_path) == ["small.lock"]


def test_half_a_root_of_a_killed_process_is_in_nobodys_way(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "evc" / "making-small" / "root" / "half").mkdir(parents=True)
    archive = cache.packed_root("small.sh")
    with tarfile.open(archive) as tar:
        assert sorted(tar.getnames()) == [".", "./file"]
    assert names(tmp_path) == sorted([archive.name, "small.lock"])
