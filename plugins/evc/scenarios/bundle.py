"""A DAG bundle of scenario files: Airflow's own way to say where DAGs come from.

Airflow reads DAGs from Python files, and shows one import error a file. So each ``<name>.yaml`` gets a Python file of
its own, made when the bundle is refreshed, that holds the text of the scenario and hands it to
:func:`evc.scenarios.dag.scenario_dag`: a broken scenario is an import error of that file, and harms no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow.dag_processing.bundles.base import BaseDagBundle

from evc.fleet.documents import MAX_DOCUMENT_BYTES
from evc.fleet.scenarios import ENDING
from evc.hooks.settings import scenarios_folder, settings

# "airflow" and "dag" have to stand in it: what Airflow looks for before it reads a file
_HEAD = (
    "# An Airflow DAG, made from {name}: edit that file, not this one.\nfrom evc.scenarios.dag import scenario_dag\n"
)


class ScenarioBundle(BaseDagBundle):
    """Each ``*.yaml`` of ``[evc] scenarios_folder`` as a DAG file.

    In ``[dag_processor] dag_bundle_config_list``, beside the bundle of the DAGs folder:
    ``{"name": "scenarios", "classpath": "evc.scenarios.bundle.ScenarioBundle", "kwargs": {}}``
    """

    supports_versioning = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
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
        """Bring the DAG files to what the scenario files are now."""
        wanted = {_file_name(name): _source(name, data) for name, data in _scenarios(scenarios_folder(settings()))}
        self._path.mkdir(parents=True, exist_ok=True)
        with self.lock():
            _write(self._path, wanted)


def _scenarios(folder: Path) -> list[tuple[str, bytes]]:
    if not folder.is_dir():
        return []
    files = sorted(path for path in folder.iterdir() if path.suffix == ENDING and path.is_file())
    return [(path.name, _head_of(path)) for path in files]


def _head_of(path: Path) -> bytes:
    """Return what a file holds; of one that is too long to be a scenario as much as tells it."""
    with path.open("rb") as file:
        return file.read(MAX_DOCUMENT_BYTES + 1)


def _file_name(name: str) -> str:
    """Return a name that is no other file's, whatever characters a scenario file's name has."""
    stem = name.removesuffix(ENDING)
    return f"{stem}.py" if stem.isidentifier() else f"{name.encode().hex()}.py"


def _source(name: str, data: bytes) -> str:
    lines = "".join(f"    {line!r}\n" for line in data.splitlines(keepends=True)) or "    b''\n"
    return f"{_HEAD.format(name=ascii(name))}\nTEXT = (\n{lines})\ndag = scenario_dag({name!r}, TEXT)\n"


def _write(folder: Path, wanted: Mapping[str, str]) -> None:
    for path in folder.glob("*.py"):
        if path.name not in wanted:
            path.unlink(missing_ok=True)
    for name, source in wanted.items():
        path = folder / name
        if path.is_file() and path.read_text() == source:
            continue
        new = path.with_suffix(".new")
        new.write_text(source)
        new.replace(path)
