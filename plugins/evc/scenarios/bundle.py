"""A DAG bundle of scenario files: Airflow's own way to say where DAGs come from.

Airflow reads DAGs from Python files, and shows one import error a file. So each ``<name>.yaml`` gets a Python file of
its own, made when the bundle is refreshed, that holds the text of the scenario and hands it to
:func:`evc.scenarios.dag.scenario_dag`: a broken scenario is an import error of that file, and harms no other.

A folder that can't be looked into, as while a mount is away or a checkout goes on, takes no DAG away: the files of the
last look stay, beside one that is an import error and names the folder. Raising instead would keep the DAGs as well,
but only the DAG processor's log would say why, and tasks, which make the bundle anew, would fail.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow.dag_processing.bundles.base import BaseDagBundle

from evc.fleet.documents import MAX_DOCUMENT_BYTES
from evc.fleet.scenarios import ENDING, MAX_SCENARIO_NAME, SCENARIO_PATTERN
from evc.hooks.settings import scenarios_folder, settings

# "airflow" and "dag" have to stand in it: what Airflow looks for before it reads a file. Nothing of the scenario does:
# in the first two lines of a Python file a name such as "coding=utf-7" says how the rest is to be read
_HEAD = "# An Airflow DAG, made from the scenario file that is named below: edit that one.\n"
_FOLDER_FILE = "_folder.py"  # no scenario's: see _file_name


class ScenarioBundle(BaseDagBundle):
    """Each ``*.yaml`` of ``[evc] scenarios_folder`` as a DAG file.

    In ``[dag_processor] dag_bundle_config_list``, beside the bundle of the DAGs folder:
    ``{"name": "scenarios", "classpath": "evc.scenarios.bundle.ScenarioBundle", "kwargs": {}}``

    :param folder: another one than the setting's: a bundle each, names of scenarios differ between them
    """

    supports_versioning = False

    def __init__(self, *, folder: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._folder = Path(folder) if folder else None
        self._path = self.base_dir / "dags"

    @property
    def path(self) -> Path:
        """Where the DAG files are."""
        return self._path

    def get_current_version(self) -> None:
        """Return none: the files are what they are now."""

    def initialize(self) -> None:
        """Make the files, before a task or the DAG processor needs them."""
        self.refresh()
        super().initialize()

    def refresh(self) -> None:
        """Bring the DAG files to what the scenario files are now; where their folder is away, keep them and say so."""
        folder = self._folder or scenarios_folder(settings())
        self._path.mkdir(parents=True, exist_ok=True)
        with self.lock():
            try:
                wanted = _dag_files(folder)
            except OSError as error:
                where = f"folder of bundle {self.name}" if self._folder else "[evc] scenarios_folder"
                _write(self._path, {_FOLDER_FILE: _folder_refusal(where, folder, error)})
            else:
                _remove_others(self._path, wanted)
                _write(self._path, wanted)


def _dag_files(folder: Path) -> dict[str, str]:
    """Return the text of each DAG file by its name.

    :raises OSError: the folder can't be looked into, or went away meanwhile
    """
    before = folder.stat()
    wanted = {}
    for path in sorted(path for path in folder.iterdir() if path.suffix == ENDING):
        try:
            if path.is_file():
                wanted[_file_name(path.name)] = _source(path.name, _head_of(path))
        except FileNotFoundError:
            continue  # deleted just now
        except OSError as error:
            wanted[_file_name(path.name)] = _refusal(path.name, error)
    # else files that went with their folder would be taken for deleted ones
    if not os.path.samestat(before, folder.stat()):
        raise OSError(errno.ESTALE, "was replaced while it was read")
    return wanted


def _head_of(path: Path) -> bytes:
    """Return what a file holds; of one that is too long to be a scenario as much as tells it."""
    with path.open("rb") as file:
        return file.read(MAX_DOCUMENT_BYTES + 1)


def _file_name(name: str) -> str:
    """Return a name that is no other file's, whatever characters a scenario file's name has, and however many."""
    stem = name.removesuffix(ENDING)
    if re.fullmatch(SCENARIO_PATTERN, stem) and len(stem) <= MAX_SCENARIO_NAME:
        return f"{stem}.py"
    return f"_{hashlib.sha256(os.fsencode(name)).hexdigest()}.py"  # no scenario's name begins with "_"


def _shown(name: str) -> str:
    """Return a file's name as a text that can be written: Linux has names that are no UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()


def _source(name: str, data: bytes) -> str:
    lines = "".join(f"    {line!r}\n" for line in data.splitlines(keepends=True)) or "    b''\n"
    return (
        f"{_HEAD}from evc.scenarios.dag import scenario_dag\n\n"
        f"TEXT = (\n{lines})\ndag = scenario_dag({_shown(name)!a}, TEXT)\n"
    )


def _refusal(name: str, error: OSError) -> str:
    """Return a DAG file that is the import error of a scenario file."""
    return _raising(_shown(name), f"can not be read: {error.strerror}", "a file that Airflow may read")


def _folder_refusal(where: str, folder: Path, error: OSError) -> str:
    """Return a DAG file that is the import error of the scenarios' folder."""
    wrong = f"{_shown(str(folder))}: {error.strerror}: scenarios are as they were seen last"
    return _raising(where, wrong, "a folder that Airflow may read; an empty one where there are none")


def _raising(where: str, wrong: str, allowed: str) -> str:
    return f"{_HEAD}from evc.errors import InputError\n\nraise InputError({where!a}, {wrong!a}, {allowed!a})\n"


def _remove_others(folder: Path, wanted: Mapping[str, str]) -> None:
    for path in folder.glob("*.py"):
        if path.name not in wanted:
            path.unlink(missing_ok=True)


def _write(folder: Path, wanted: Mapping[str, str]) -> None:
    for name, source in wanted.items():
        path = folder / name
        if path.is_file() and path.read_bytes() == source.encode():
            continue
        new = path.with_suffix(".new")
        new.write_bytes(source.encode())
        new.replace(path)
