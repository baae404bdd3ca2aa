"""``base/opencv:4``: the root of ``base/python:3.11`` with NumPy and OpenCV, from the packages that run these tests.

Made when it is first asked for, from no registry: some 10 s, kept in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import sys
import tarfile
from collections.abc import Iterator
from importlib.metadata import distribution, version
from pathlib import Path

from tests.servers.cache import cache_folder, making, packed_root, recipe_key

OPENCV_BASE = ("base/opencv", "4")
PYTHON_RECIPE = "base-python.sh"
_PACKAGES = ("numpy", "opencv-python-headless")
_PLACE = "./usr/lib/python3/dist-packages"
_LEFT_OUT = frozenset({"__pycache__", "tests", "f2py", "include"})


def packed_opencv_base() -> Path:
    """Return a ``.tar.gz`` of the root file system.

    :raises RuntimeError: this Python is another than the root's, its NumPy would not run there
    """
    if sys.version_info[:2] != (3, 11):
        raise RuntimeError("base/opencv:4 is made with Python 3.11: it takes its NumPy from there")
    archive = cache_folder() / f"base-opencv-{_key()}.tar.gz"
    with making("base-opencv"):
        if not archive.exists():
            part = archive.with_name("base-opencv.part")
            _pack(packed_root(PYTHON_RECIPE), part)
            for older in cache_folder().glob("base-opencv-*.tar.gz"):
                older.unlink()
            part.rename(archive)
    return archive


def _key() -> str:
    text = " ".join([recipe_key(PYTHON_RECIPE), *(version(name) for name in _PACKAGES)])
    return hashlib.sha256(text.encode() + Path(__file__).read_bytes()).hexdigest()[:12]


def _pack(root: Path, packed: Path) -> None:
    # level 1: it is unpacked on the same machine soon
    with tarfile.open(root) as base, tarfile.open(packed, "w:gz", compresslevel=1) as tar:
        for member in base:
            tar.addfile(member, base.extractfile(member) if member.isreg() else None)
        for name, file in _files():
            info = tar.gettarinfo(file, f"{_PLACE}/{name}")
            info.uid = info.gid = 0
            info.uname = info.gname = "root"
            with file.open("rb") as content:
                tar.addfile(info, content)


def _files() -> Iterator[tuple[str, Path]]:
    """Yield what an image needs of the packages, by its path in the folder of packages."""
    for package in _PACKAGES:
        for file in distribution(package).files or ():
            if ".." not in file.parts and not _LEFT_OUT & set(file.parts):
                yield str(file), Path(str(file.locate()))
