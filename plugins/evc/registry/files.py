"""Files that several processes write and a running registry reads: replaced whole, under a lock."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from evc.errors import InputError


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process or thread at a time change what the lock file ``path`` stands for; the others wait.

    :raises InputError: its folder is not there, or may not be written
    """
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _not_writable(path.parent, error) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)  # gives the lock back, as the end of the process would


def replace_file(path: Path, content: str | bytes, mode: int = 0o600) -> None:
    """Put ``content`` in place of ``path``: who reads it sees the old file or the new one, also after a power cut.

    Call it under a lock. Owner, group and mode of a file that is replaced are kept: an administrator set them so that
    the registry may read it. Its time of modification always moves on, by which the registry knows that it has to read
    it again.

    :param mode: of a file that is new
    :raises InputError: the folder may not be written, or the group can't be kept
    """
    data = content.encode() if isinstance(content, str) else content
    new = path.with_name(f".{path.name}.new")
    try:
        new.unlink(missing_ok=True)  # of a process that was killed
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            _become(handle, path, mode)
            os.fsync(handle)
        new.replace(path)
        _sync(path.parent)
    except OSError as error:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise _not_writable(path, error) from None


def _become(handle: int, path: Path, mode: int) -> None:
    """Give the new file what the one in its place has, before it gets there."""
    if not path.exists():
        os.fchmod(handle, mode)
        return
    former, mine = path.stat(), os.fstat(handle)
    if (former.st_uid, former.st_gid) != (mine.st_uid, mine.st_gid):
        # only root may give a file away; a member of its group may keep the group, which is enough
        os.fchown(handle, former.st_uid if os.geteuid() == 0 else -1, former.st_gid)
    os.fchmod(handle, former.st_mode & 0o7777)
    # two changes within one tick of the file system's clock would look like one to the registry
    moved_on = max(mine.st_mtime_ns, former.st_mtime_ns + 1_000_000)
    os.utime(handle, ns=(moved_on, moved_on))


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_file(path: Path) -> bytes | None:
    """Return what ``path`` holds; None where there is none.

    :raises InputError: it may not be read
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(
            "registry folder", f"{path}: {error.strerror}", "a folder that `evc registry init` made, of the same user"
        ) from None


def _not_writable(path: Path, error: OSError) -> InputError:
    return InputError("registry folder", f"{path}: {error.strerror}", "a folder of your own that can be written")
