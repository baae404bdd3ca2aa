"""Batches that wait on disk while the database is away: one file each, in order, never more than a bound."""

from __future__ import annotations

import fcntl
import gzip
import itertools
import json
import logging
import os
import re
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from evc.errors import DatabaseAway, DatabaseReadOnly, SpoolError
from evc.store.writer import Batch

log = logging.getLogger(__name__)

_NAME = re.compile(
    r"^(\d{20})-\d+-\d+\.json\.gz$"
)  # nanoseconds since 1970, process, number: their order is the batches'
_HALF, _BAD = ".tmp", ".bad"
_HALF_IS_DEAD_AFTER_S = 600
# what reading or writing a file raises that is no batch, whatever JSON it holds; it would block those behind it
_POISON = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    RecursionError,
    SQLAlchemyError,
    TypeError,
    ValueError,
    gzip.BadGzipFile,
    zlib.error,
)
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a spool holds.

    :param bytes: on disk
    :param oldest_ts: when the oldest batch was put there, unix seconds; None where none waits
    """

    batches: int
    bytes: int
    oldest_ts: int | None


class Spool:
    """A folder of batches, for any number of processes at once. Readable by its owner only.

    :param folder: is made where it does not exist
    :param max_bytes: what the files may take on disk together, compressed as they are
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes

    def put(self, batch: Batch) -> int:
        """Keep ``batch`` on disk; returns how many of the oldest batches were dropped for it (logged by name).

        When this returns, the batch survives a power cut.

        :raises SpoolError: the disk is full or not writable, or the batch alone is larger than the bound; no half file
            is left
        """
        content = gzip.compress(json.dumps({"tables": batch.tables, "nodes": batch.nodes}).encode(), compresslevel=1)
        if len(content) > self.max_bytes:
            raise SpoolError(
                f"spool {self.folder}: one batch takes {len(content)} bytes, the bound is {self.max_bytes}"
            )
        with self._reported():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            dropped = self._make_room(len(content))
            self._keep(f"{time.time_ns():020d}-{os.getpid()}-{next(_numbers)}.json.gz", content)
        return dropped

    def drain(self, write: Callable[[Batch], object]) -> int:
        """Hand the batches to ``write``, the oldest first, and delete those it took; returns how many.

        Stops where the database is away or read only and keeps the rest. A file that can't be read, and a batch that
        the database can't take, is set aside as ``*.bad`` and logged. Does nothing while another process drains.

        :raises DatabaseError: of another kind, from ``write``; that batch and the rest are kept
        """
        if not self.folder.is_dir():
            return 0
        with self._reported(), self._drain_lock() as mine:
            if not mine:
                return 0
            self._sweep_up()
            written = 0
            for path in self._paths():
                try:
                    written += self._hand_over(path, write)
                except (DatabaseAway, DatabaseReadOnly) as error:
                    log.warning("spool %s: %s; %d batches wait", self.folder, error, len(self._paths()))
                    break
            return written

    def waiting(self) -> Waiting:
        """Return what waits."""
        with self._reported():
            paths = self._paths()
            oldest = int(paths[0].name[:20]) // 1_000_000_000 if paths else None
            return Waiting(len(paths), sum(map(_size, paths)), oldest)

    # -- files ---------------------------------------------------------------------------------------------------------

    def _paths(self) -> list[Path]:
        return self._find(lambda name: _NAME.match(name) is not None)

    def _find(self, wanted: Callable[[str], bool]) -> list[Path]:
        try:
            return sorted(path for path in self.folder.iterdir() if wanted(path.name))
        except FileNotFoundError:
            return []

    def _make_room(self, size: int) -> int:
        """Delete what was set aside, then the oldest batches, until ``size`` bytes fit."""
        aside = self._find(lambda name: name.endswith(_BAD))
        batches = self._paths()
        used = sum(map(_size, aside + batches))
        dropped: list[str] = []
        for path in aside + batches:
            if used + size <= self.max_bytes:
                break
            used -= _size(path)
            path.unlink(missing_ok=True)
            dropped += [path.name] if path in batches else []
        if dropped:
            shown = dropped[0] if len(dropped) == 1 else f"{dropped[0]} to {dropped[-1]}"
            log.error(
                "spool %s: full (%d bytes): dropped the %d oldest batches, %s; their samples are lost",
                self.folder, self.max_bytes, len(dropped), shown,
            )  # fmt: skip
        return len(dropped)

    def _keep(self, name: str, content: bytes) -> None:
        half = self.folder / f"{name}{_HALF}"
        try:
            with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            half.rename(self.folder / name)
        except BaseException:
            half.unlink(missing_ok=True)
            raise
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _hand_over(self, path: Path, write: Callable[[Batch], object]) -> int:
        try:
            write(_read(path))
        except FileNotFoundError:
            return 0  # dropped meanwhile to make room
        except _POISON as error:
            cause = str(getattr(error, "orig", None) or error).partition("\n")[0][:200]
            aside = path.with_name(path.name + _BAD)
            log.error("spool %s: set aside %s: %s: %s", self.folder, aside.name, type(error).__name__, cause)
            path.rename(aside)
            return 0
        path.unlink(missing_ok=True)
        return 1

    def _sweep_up(self) -> None:
        """Delete half files of processes that were killed."""
        for path in self._find(lambda name: name.endswith(_HALF)):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _HALF_IS_DEAD_AFTER_S:
                    path.unlink()

    @contextmanager
    def _drain_lock(self) -> Iterator[bool]:
        """Yield whether this process may drain: the lock ends with it, however it ends."""
        lock = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
        finally:
            os.close(lock)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SpoolError(f"spool {self.folder}: {error.strerror or error}") from error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _read(path: Path) -> Batch:
    given: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return Batch(given["tables"], given["nodes"])
