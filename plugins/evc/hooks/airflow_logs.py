"""Airflow's own old log files.

Only what Airflow puts there is looked at: runs below ``dag_id=...`` and the logs of its components. No symbolic link is
followed, and every step goes by an open folder, so nothing outside can be reached, whatever is changed meanwhile.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

COMPONENTS = ("dag_processor", "dag_processor_manager", "scheduler", "triggerer")


@dataclass(slots=True)
class Deleted:
    """What went.

    :param refused: files and folders that this user may not read or delete
    """

    files: int = 0
    bytes: int = 0
    folders: int = 0
    refused: int = 0

    def refuse(self, error: OSError) -> None:
        """Count what could not be done."""
        if not isinstance(error, FileNotFoundError):  # else somebody else was faster
            self.refused += 1


def delete_old_logs(folder: Path, before_ts: float) -> Deleted:
    """Delete log files last written before ``before_ts``, unix seconds, and folders that are empty since then.

    :param folder: ``[logging] base_log_folder``; nothing is done where it does not exist
    """
    deleted = Deleted()
    for name in _owned(folder, deleted):
        try:
            _delete_below(folder / name, before_ts, deleted)
        except OSError as error:  # of the top itself; the others are not its fault
            deleted.refuse(error)
    return deleted


def _delete_below(top: Path, before_ts: float, deleted: Deleted) -> None:
    for _, folders, files, fd in os.fwalk(top, topdown=False, onerror=deleted.refuse, follow_symlinks=False):
        for file in files:
            _delete_file(fd, file, before_ts, deleted)
        for each in folders:
            _delete_folder(fd, each, before_ts, deleted)


def _owned(folder: Path, deleted: Deleted) -> list[str]:
    try:
        with os.scandir(folder) as found:
            return sorted(
                each.name
                for each in found
                if (each.name.startswith("dag_id=") or each.name in COMPONENTS) and each.is_dir(follow_symlinks=False)
            )
    except NotADirectoryError:
        return []
    except OSError as error:
        deleted.refuse(error)
        return []


def _delete_file(fd: int, name: str, before_ts: float, deleted: Deleted) -> None:
    try:
        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode) or found.st_mtime >= before_ts:
            return
        os.unlink(name, dir_fd=fd)
    except OSError as error:
        deleted.refuse(error)
        return
    deleted.files += 1
    deleted.bytes += found.st_size


def _delete_folder(fd: int, name: str, before_ts: float, deleted: Deleted) -> None:
    """Delete a folder that has been empty for long: a task may be about to write into a new one."""
    with suppress(OSError):
        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode) and found.st_mtime < before_ts:
            os.rmdir(name, dir_fd=fd)  # refuses one that holds anything
            deleted.folders += 1
