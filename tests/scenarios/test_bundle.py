"""The bundle: scenario files become DAG files, each for itself."""

from __future__ import annotations

import ast
import base64
import errno
import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evc.errors import InputError
from evc.scenarios.bundle import ScenarioBundle, _file_name, _head_of, _source

SMALL = "description: x\nmodel: {name: farm}\ninference: {}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "scenarios"
    made.mkdir()
    monkeypatch.setenv("AIRFLOW__EVC__SCENARIOS_FOLDER", str(made))
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "bundles"))
    return made


@pytest.fixture
def bundle(folder: Path) -> ScenarioBundle:
    made = ScenarioBundle(name="scenarios")
    made.initialize()
    return made


def files(bundle: ScenarioBundle) -> list[str]:
    bundle.refresh()
    return sorted(path.name for path in bundle.path.iterdir())


def test_files_come_change_and_go(folder: Path, bundle: ScenarioBundle) -> None:
    assert files(bundle) == []
    (folder / "farm.yaml").write_text(SMALL)
    (folder / "reference.yaml.example").write_text(SMALL)
    (folder / "notes.txt").write_text("no scenario")
    (folder / "folder.yaml").mkdir()
    assert files(bundle) == ["farm.py"]
    made = bundle.path / "farm.py"
    before = made.stat()
    assert files(bundle) == ["farm.py"]
    assert (made.stat().st_mtime_ns, made.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    (folder / "farm.yaml").write_text(SMALL.replace("x", "y"))
    files(bundle)
    assert b"description: y" in made.read_bytes()
    (folder / "farm.yaml").unlink()
    assert files(bundle) == []


def test_a_bundle_may_have_a_folder_of_its_own(folder: Path, bundle: ScenarioBundle, tmp_path: Path) -> None:
    (folder / "farm.yaml").write_text(SMALL)
    other = tmp_path / "other"
    other.mkdir()
    (other / "garden.yaml").write_text(SMALL)
    second = ScenarioBundle(name="garden", folder=str(other))
    second.initialize()
    assert (files(bundle), files(second)) == (["farm.py"], ["garden.py"])
    other.rename(tmp_path / "away")
    assert files(second) == ["_folder.py", "garden.py"]
    assert "'folder of bundle garden'" in (second.path / "_folder.py").read_text()


def test_a_broken_file_is_an_import_error_with_line_and_key_and_harms_no_other(
    folder: Path, bundle: ScenarioBundle
) -> None:
    from airflow.dag_processing.dagbag import DagBag

    (folder / "farm.yaml").write_text(SMALL)
    (folder / "bad.yaml").write_text(SMALL.replace("inference", "inferenc"))
    (folder / "Bad Name.yaml").write_text(SMALL)
    (folder / "long.yaml").write_text(SMALL + "#" * 100_000)
    bundle.refresh()
    bag = DagBag(bundle.path)
    assert list(bag.dags) == ["scenario_farm"]
    said = {Path(name).name: error.strip().splitlines()[-1] for name, error in bag.import_errors.items()}
    assert said.pop("bad.py").startswith(
        "evc.errors.InputError: bad.yaml:3: inferenc: unknown key, is inference meant?; allowed: description, "
    )
    assert said.pop("long.py") == "evc.errors.InputError: long.yaml: 65537 bytes; allowed: at most 65536"
    (error,) = said.values()
    assert error.startswith('evc.errors.InputError: Bad Name.yaml: "Bad Name" does not fit; allowed: 1 to 63 lower')


def test_a_folder_that_is_gone_for_a_moment_takes_no_dag_away(folder: Path, bundle: ScenarioBundle) -> None:
    from airflow.dag_processing.dagbag import DagBag

    (folder / "farm.yaml").write_text(SMALL)
    bundle.refresh()
    away = folder.rename(folder.with_name("away"))
    assert files(bundle) == ["_folder.py", "farm.py"]
    bag = DagBag(bundle.path)
    assert list(bag.dags) == ["scenario_farm"]
    (said,) = bag.import_errors.values()
    assert said.strip().splitlines()[-1] == (
        f"evc.errors.InputError: [evc] scenarios_folder: {folder}: No such file or directory: scenarios are as they "
        "were seen last; allowed: a folder that Airflow may read; an empty one where there are none"
    )
    ScenarioBundle(name="scenarios").initialize()  # as a task does, which needs its DAG
    assert (bundle.path / "farm.py").is_file()
    away.rename(folder)
    assert files(bundle) == ["farm.py"]
    (folder / "farm.yaml").unlink()
    assert files(bundle) == []


def test_a_file_in_place_of_the_folder_is_told(folder: Path, bundle: ScenarioBundle) -> None:
    folder.rmdir()
    folder.write_text("")
    assert files(bundle) == ["_folder.py"]
    with pytest.raises(InputError, match="scenarios: Not a directory: scenarios are as they were seen last; allowed"):
        load(bundle.path / "_folder.py")


def test_a_folder_that_goes_while_it_is_read_takes_no_dag_away(folder: Path, bundle: ScenarioBundle) -> None:
    for name in ("farm.yaml", "yard.yaml"):
        (folder / name).write_text(SMALL)
    bundle.refresh()

    def replace_first(path: Path) -> bytes:
        if folder.is_dir():
            folder.rename(folder.with_name("away"))
        return _head_of(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evc.scenarios.bundle._head_of", replace_first)
        assert files(bundle) == ["_folder.py", "farm.py", "yard.py"]


def test_a_file_that_can_not_be_read_or_named_harms_no_other(folder: Path, bundle: ScenarioBundle) -> None:
    for name in ("farm.yaml", f"a-{'b' * 200}.yaml", os.fsdecode(b"\xff.yaml"), "한글.yaml", "denied.yaml"):
        (folder / name).write_text(SMALL)
    head_of = _head_of

    def refuse(path: Path) -> bytes:  # root, as which tests may run, is denied nothing
        if path.name == "denied.yaml":
            raise PermissionError(errno.EACCES, "Permission denied")
        return head_of(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evc.scenarios.bundle._head_of", refuse)
        assert len(files(bundle)) == 5
    with pytest.raises(InputError, match=r"^denied\.yaml: can not be read: Permission denied; allowed: a file"):
        load(bundle.path / "denied.py")
    assert load(bundle.path / "farm.py").dag.dag_id == "scenario_farm"
    (damaged,) = (path for path in bundle.path.iterdir() if r"\\udcff" in path.read_text(encoding="utf-8"))
    with pytest.raises(InputError, match=r"^\\udcff\.yaml: "):
        load(damaged)


def test_a_name_does_not_say_how_python_reads_the_file(folder: Path, bundle: ScenarioBundle) -> None:
    code = ")\nraise SystemExit\nX=(".encode("utf-16-be")
    text = b"+ACc-+" + base64.b64encode(code).rstrip(b"=") + b"-+ACc-"
    (folder / "coding=utf-7 .yaml").write_bytes(text)
    (made,) = files(bundle)
    with pytest.raises(InputError, match="does not fit"):
        load(bundle.path / made)


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("made", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@given(st.text(min_size=1, max_size=30), st.binary(max_size=200))
def test_whatever_a_file_holds_is_data_in_what_is_made_of_it(stem: str, data: bytes) -> None:
    name = f"{stem}.yaml"
    made = ast.parse(_source(name, data))
    assert [type(node) for node in made.body] == [ast.ImportFrom, ast.Assign, ast.Assign]
    text, dag = (node.value for node in made.body if isinstance(node, ast.Assign))
    assert ast.literal_eval(text) == data
    assert isinstance(dag, ast.Call)
    assert ast.literal_eval(dag.args[0]) == name


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=8), unique=True, max_size=5))
def test_no_two_files_become_one(stems: list[str]) -> None:
    names = [_file_name(f"{stem}.yaml") for stem in stems]
    assert len(set(names)) == len(stems)
    assert all("/" not in name for name in names)
