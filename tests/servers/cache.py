"""What test servers are made from and takes long to make: kept in the user's cache folder between test sessions."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RECIPES = Path(__file__).parent / "recipes"


def cache_folder() -> Path:
    """Return the folder that all checkouts of a user share, ``$XDG_CACHE_HOME/evc``."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evc"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def recipe_key(recipe: str) -> str:
    """Return what names the product of a recipe: another text, another key."""
    return hashlib.sha256((RECIPES / recipe).read_bytes()).hexdigest()[:12]


@contextmanager
def making(name: str) -> Iterator[None]:
    """Let one process at a time make ``name``; the others wait, and find it made."""
    with (cache_folder() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def root_folder(recipe: str) -> Iterator[Path]:
    """Yield a new root file system made by ``recipe``; it is deleted when the block ends. For who holds :func:`making`.

    :raises RuntimeError: the recipe failed; the message ends with what it said
    """
    folder = cache_folder() / f"making-{recipe.removesuffix('.sh')}"
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    folder.mkdir()
    try:
        command = ["sh", str(RECIPES / recipe), str(folder / "root")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{recipe} ended with {done.returncode}: {done.stderr[-2000:]}")
        yield folder / "root"
    finally:
        shutil.rmtree(folder)


def packed_root(recipe: str) -> Path:
    """Return a ``.tar.gz`` of the root file system that ``recipe`` makes."""
    name = recipe.removesuffix(".sh")
    archive = cache_folder() / f"{name}-{recipe_key(recipe)}.tar.gz"
    with making(name):
        if not archive.exists():
            with root_folder(recipe) as root:
                packed = root.with_name("root.tar.gz")
                subprocess.run(["tar", "--numeric-owner", "-C", root, "-czf", packed, "."], check=True)
                for older in cache_folder().glob(f"{name}-*.tar.gz"):
                    older.unlink()
                packed.rename(archive)
    return archive
