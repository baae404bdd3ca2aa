"""The source of a model: the folder ``<models>/<name>/``, taken stock of file by file.

What counts is what a build can see: paths, contents and executable bits. So the revision is the same on every machine
and after every checkout, and it changes with the least that could change the image.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from evc.errors import InputError
from evc.fleet.dockerignore import DockerIgnore
from evc.fleet.models import MODEL_FILE, Model, check_model_name, read_model
from evc.fleet.nodes import quote

DOCKERFILE = "Dockerfile"
IGNORE_FILE = ".dockerignore"
MAX_FILES = 5_000
MAX_FILE_BYTES = 1 << 30
MAX_BYTES = 2 << 30
MAX_PATH_BYTES = 1_000
MAX_TEXT_BYTES = 1 << 20
_ALWAYS = frozenset({MODEL_FILE, DOCKERFILE, IGNORE_FILE})
_NEVER = frozenset({"__pycache__", ".git"})
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source.

    :param path: relative to the source, parted by ``/``
    :param sha256: of its content, hexadecimal
    """

    path: str
    sha256: str
    size_bytes: int
    executable: bool


@dataclass(frozen=True, slots=True)
class Source:
    """What is built.

    :param files: sorted by path
    :param revision: ``sha256:...`` over all of them
    """

    folder: Path
    model: Model
    files: tuple[SourceFile, ...]
    revision: str

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(file.size_bytes for file in self.files)

    def open(self, file: SourceFile) -> BinaryIO:
        """Open one of the files; its content may have changed since stock was taken.

        :raises InputError: it is no regular file any more
        """
        return _open(self.folder / file.path, f"{self.folder.name}/{file.path}")


def known_models(models_folder: Path) -> list[str]:
    """Return the names of the models that are there, sorted.

    :raises InputError: the folder can't be read
    """
    try:
        return sorted(
            entry.name for entry in models_folder.iterdir() if not entry.is_symlink() and (entry / MODEL_FILE).is_file()
        )
    except OSError as error:
        allowed = "the folder that holds a folder for each model"
        raise InputError("[evc] models_folder", f"{models_folder}: {error.strerror}", allowed) from None


def read_source(models_folder: Path, name: str) -> Source:
    """Take stock of a model's source.

    :param name: the model's name, and its folder's
    :raises InputError: no such model; its model.yaml is wrong; a symlink, a special file, or more than the limits allow
    """
    check_model_name("model", name)
    folder = models_folder / name
    if name not in known_models(models_folder):
        _refuse_unknown(models_folder, folder)
    model = read_model(f"{name}/{MODEL_FILE}", _text(folder, MODEL_FILE), folder=name)
    if not os.path.lexists(folder / DOCKERFILE):
        raise InputError(f"{name}/{DOCKERFILE}", "is missing", "a Dockerfile beside model.yaml")
    files = tuple(sorted(_files(folder), key=lambda file: file.path.encode()))
    return Source(folder, model, files, source_revision(files))


def source_revision(files: tuple[SourceFile, ...]) -> str:
    """Return ``sha256:...`` over path, executable bit and content of ``files``, in the order of their paths' bytes."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.sha256} {'x' if file.executable else '-'} {file.path}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def _refuse_unknown(models_folder: Path, folder: Path) -> None:
    if folder.is_symlink():
        raise InputError(folder.name, "is a symbolic link", "a folder of its own in the models folder")
    known = known_models(models_folder)
    if folder.is_dir():
        raise InputError(f"{folder.name}/{MODEL_FILE}", "is missing", "a model.yaml in the folder of each model")
    allowed = f"one of {', '.join(known)}" if known else f"none yet: {models_folder} holds no folder with model.yaml"
    raise InputError("model", f"{quote(folder.name)} is unknown", allowed)


def _text(folder: Path, name: str) -> bytes:
    with _open(folder / name, f"{folder.name}/{name}") as file:
        return file.read(MAX_TEXT_BYTES)


def _ignore(folder: Path) -> DockerIgnore:
    if not os.path.lexists(folder / IGNORE_FILE):
        return DockerIgnore([])
    where = f"{folder.name}/{IGNORE_FILE}"
    return DockerIgnore(_text(folder, IGNORE_FILE).decode("utf-8", "replace").splitlines(), where)


def _files(folder: Path) -> Iterator[SourceFile]:
    count = size = 0
    for path in _paths(folder, "", _ignore(folder)):
        file = _take_stock(folder, path)
        count, size = count + 1, size + file.size_bytes
        if count > MAX_FILES:
            allowed = f"at most {MAX_FILES}; what is no part of the build belongs in {IGNORE_FILE}"
            raise InputError(folder.name, f"more than {MAX_FILES} files", allowed)
        if size > MAX_BYTES:
            allowed = f"at most {MAX_BYTES}; what is no part of the build belongs in {IGNORE_FILE}"
            raise InputError(folder.name, f"more than {MAX_BYTES} bytes", allowed)
        yield file


def _paths(folder: Path, below: str, ignore: DockerIgnore) -> Iterator[str]:
    """Yield the path of every file that counts. :raises InputError: one is neither a file nor a folder"""
    with os.scandir(folder / below) as entries:
        for entry in entries:
            path = f"{below}{entry.name}"
            if entry.name in _NEVER or entry.name.endswith(".pyc"):
                continue
            is_folder = entry.is_dir(follow_symlinks=False)
            ignored = path not in _ALWAYS and ignore.ignores(path)
            if ignored and not (is_folder and ignore.has_exceptions):
                continue
            where = _checked_path(folder.name, path)
            if is_folder:
                yield from _paths(folder, f"{path}/", ignore)
            elif entry.is_symlink():
                raise InputError(where, "is a symbolic link", f"files and folders, or a line in {IGNORE_FILE}")
            elif not entry.is_file(follow_symlinks=False):
                raise InputError(where, "is a special file", f"files and folders, or a line in {IGNORE_FILE}")
            else:
                yield path


def _checked_path(name: str, path: str) -> str:
    where = f"{name}/{path}"
    raw = os.fsencode(path)
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(name, f"the name {quote(path)} is not UTF-8", "names in UTF-8") from None
    if not path.isprintable() or len(raw) > MAX_PATH_BYTES:
        allowed = f"paths of at most {MAX_PATH_BYTES} bytes, printable"
        raise InputError(name, f"the name {quote(path)} does not fit", allowed)
    return where


def _take_stock(folder: Path, path: str) -> SourceFile:
    digest, size = hashlib.sha256(), 0
    where = f"{folder.name}/{path}"
    with _open(folder / path, where) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
            if size > MAX_FILE_BYTES:
                raise InputError(where, f"more than {MAX_FILE_BYTES} bytes", f"files of at most {MAX_FILE_BYTES}")
        executable = bool(os.fstat(file.fileno()).st_mode & stat.S_IXUSR)
    return SourceFile(path, digest.hexdigest(), size, executable)


def _open(path: Path, where: str) -> BinaryIO:
    try:
        # a pipe would hang at open, so not to block comes first
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(where, f"can't be read: {error.strerror}", "a regular file that Airflow may read") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(where, "is not a regular file", "a regular file")
    return os.fdopen(descriptor, "rb")
