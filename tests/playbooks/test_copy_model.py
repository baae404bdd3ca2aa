"""copy_model.yaml and the node's side of evc_model, by hand and by whoever means harm."""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from evc.building.source import read_source

PLAYBOOKS = Path(__file__).parents[2] / "playbooks"
MODEL = 'name: reid\ndescription: x\ntask: reid\nversion: "1"\ninputs: [file]\nresults: [{kind: a}]\n'


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("evc_model_module", PLAYBOOKS / "library" / "evc_model.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MODULE = load()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "reid"
    (folder / "lib").mkdir(parents=True)
    (folder / "model.yaml").write_text(MODEL)
    (folder / "Dockerfile").write_text("FROM scratch\n")
    (folder / "lib" / "run.sh").write_text("#!/bin/sh\n")
    (folder / "lib" / "run.sh").chmod(0o755)
    return tmp_path / "models"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def manifest(contents: dict[str, bytes], revision: str = "a" * 64, **more: Any) -> dict[str, Any]:
    files = [{"path": path, "sha256": sha256(data), "executable": False} for path, data in contents.items()]
    return {"name": "reid", "revision": revision, "files": files, "archive": None, **more}


def archive(tmp_path: Path, *contents: bytes) -> str:
    path = tmp_path / f"{time.monotonic_ns()}.tar"
    with tarfile.open(path, "w") as tar:
        for data in contents:
            source = tmp_path / "blob"
            source.write_bytes(data)
            tar.add(source, sha256(data))
    return str(path)


def put(tmp_path: Path, contents: dict[str, bytes], revision: str) -> dict[str, Any]:
    """Ask, send what is missing, as the playbook does; returns the first answer."""
    asked: dict[str, Any] = MODULE.run(manifest(contents, revision), False)
    if asked["missing"]:
        sent = [data for data in contents.values() if sha256(data) in asked["missing"]]
        MODULE.run(manifest(contents, revision, archive=archive(tmp_path, *sent)), False)
    return asked


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# -- the node's side -------------------------------------------------------------------------------------------------


def test_what_the_node_has_in_any_revision_is_not_asked_for(home: Path, tmp_path: Path) -> None:
    first = {"a": b"1", "b/c": b"2"}
    assert len(put(tmp_path, first, "a" * 64)["missing"]) == 2
    assert put(tmp_path, first, "a" * 64) == {
        "folder": f"{home}/.evc/models/reid/{'a' * 64}",
        "changed": False,
        "missing": [],
    }
    second = {"b/moved": b"2", "new": b"3"}
    assert put(tmp_path, second, "b" * 64)["missing"] == [sha256(b"3")]
    folder = home / ".evc" / "models" / "reid"
    assert tree(folder / ("a" * 64)) == first
    assert tree(folder / ("b" * 64)) == second
    assert sorted(path.name for path in folder.iterdir()) == ["a" * 64, "b" * 64]


@pytest.mark.parametrize("change", ["changed", "removed", "more", "mode", "link"])
def test_a_revision_that_was_changed_by_hand_is_put_right(home: Path, tmp_path: Path, change: str) -> None:
    contents = {"a": b"1", "b": b"2"}
    put(tmp_path, contents, "a" * 64)
    folder = home / ".evc" / "models" / "reid" / ("a" * 64)
    if change == "changed":
        (folder / "a").write_bytes(b"x")
    elif change == "removed":
        (folder / "a").unlink()
    elif change == "more":
        (folder / "c").write_bytes(b"x")
    elif change == "mode":
        (folder / "a").chmod(0o755)
    else:
        (folder / "a").unlink()
        (folder / "a").symlink_to("/etc/passwd")
    assert put(tmp_path, contents, "a" * 64)["changed"]
    assert tree(folder) == contents
    assert not (folder / "a").is_symlink()
    assert (folder / "a").stat().st_mode & 0o111 == 0


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "", ".", "a//b", "a/./b", "a\nb", "a\x00b"])
def test_a_path_that_leads_out_is_refused(home: Path, tmp_path: Path, path: str) -> None:
    asked = manifest({path: b"1"}, archive=archive(tmp_path, b"1"))
    with pytest.raises(MODULE.Refused, match="leads out"):
        MODULE.run(asked, False)
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("name", ["..", "../x", "a/b", "", "A", "a" * 64, ".ssh"])
def test_a_name_that_leads_out_is_refused(home: Path, name: str) -> None:
    with pytest.raises(MODULE.Refused, match="not that of a model"):
        MODULE.run(manifest({"a": b"1"}, name=name), False)
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("revision", ["..", "../../x", "a", "", "A" * 64])
def test_a_revision_that_leads_out_is_refused(home: Path, revision: str) -> None:
    with pytest.raises(MODULE.Refused, match="is none"):
        MODULE.run(manifest({"a": b"1"}, revision), False)
    assert list(home.iterdir()) == []


def test_a_path_that_stands_twice_is_refused(home: Path) -> None:
    asked = manifest({"a": b"1"})
    asked["files"] += copy.deepcopy(asked["files"])
    with pytest.raises(MODULE.Refused, match="twice"):
        MODULE.run(asked, False)


@pytest.mark.parametrize("part", [".evc/models", ".evc/models/reid", f".evc/models/reid/{'a' * 64}"])
def test_a_link_on_the_node_is_not_followed(home: Path, tmp_path: Path, part: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (home / part).parent.mkdir(parents=True, exist_ok=True)
    (home / part).symlink_to(outside)
    with pytest.raises(MODULE.Refused, match="is a symbolic link"):
        put(tmp_path, {"a": b"1"}, "a" * 64)
    assert list(outside.iterdir()) == []


def test_contents_that_are_not_what_they_should_be_are_refused(home: Path, tmp_path: Path) -> None:
    wrong = archive(tmp_path, b"1")
    with tarfile.open(wrong, "w") as tar:
        (tmp_path / "blob").write_bytes(b"other")
        tar.add(tmp_path / "blob", sha256(b"1"))
    with pytest.raises(MODULE.Refused, match="a changed while it was copied"):
        MODULE.run(manifest({"a": b"1"}, archive=wrong), False)
    with pytest.raises(MODULE.Refused, match="a was not sent"):
        MODULE.run(manifest({"a": b"1"}, archive=archive(tmp_path, b"2")), False)
    assert list((home / ".evc" / "models" / "reid").iterdir()) == []


def test_an_archive_with_paths_writes_nothing_outside(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "evil.tar"
    (tmp_path / "blob").write_bytes(b"1")
    with tarfile.open(path, "w") as tar:
        tar.add(tmp_path / "blob", "../../../escaped")
        link = tarfile.TarInfo(sha256(b"1"))
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(MODULE.Refused, match="was not sent"):
        MODULE.run(manifest({"a": b"1"}, archive=str(path)), False)
    assert not list(tmp_path.rglob("escaped"))


def test_old_revisions_and_leftovers_go_and_young_ones_stay(home: Path, tmp_path: Path) -> None:
    folder = home / ".evc" / "models" / "reid"
    for number in range(6):
        put(tmp_path, {"a": str(number).encode()}, str(number) * 64)
    assert len(list(folder.iterdir())) == 6  # builds may still read them
    (folder / ".new-killed").mkdir()
    day = time.time() - 2 * MODULE.STALE_S
    for path in folder.iterdir():
        os.utime(path, (day, day))
    put(tmp_path, {"a": b"6"}, "6" * 64)
    names = sorted(path.name for path in folder.iterdir())
    assert "6" * 64 in names
    assert len(names) == MODULE.KEPT_REVISIONS


def test_times_are_the_same_in_every_copy(home: Path, tmp_path: Path) -> None:
    put(tmp_path, {"b/a": b"1"}, "a" * 64)
    folder = home / ".evc" / "models" / "reid" / ("a" * 64)
    assert {path.stat().st_mtime for path in folder.rglob("*")} == {MODULE.FILE_TIME_S}


def test_check_mode_changes_nothing(home: Path) -> None:
    answer = MODULE.run(manifest({"a": b"1"}), True)
    assert (answer["changed"], answer["missing"]) == (True, [sha256(b"1")])
    assert list(home.iterdir()) == []


# -- by hand ---------------------------------------------------------------------------------------------------------


def playbook(home: Path, *variables: str, check: bool = True) -> str:
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "here,", "-c", "local"]
    command += [
        str(PLAYBOOKS / "copy_model.yaml"),
        "-e",
        "builder=here",
        "-e",
        f"ansible_python_interpreter={sys.executable}",
    ]
    for variable in variables:
        command += ["-e", variable]
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C.UTF-8", "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is check, done.stdout + done.stderr
    return " ".join((done.stdout + done.stderr).split())


def test_by_hand_only_what_changed_travels(home: Path, models: Path) -> None:
    assert "3 of 3 files sent" in playbook(home, "model=reid", f"models_folder={models}")
    revision = read_source(models, "reid").revision.removeprefix("sha256:")
    folder = home / ".evc" / "models" / "reid" / revision
    assert tree(folder) == tree(models / "reid")
    assert os.access(folder / "lib" / "run.sh", os.X_OK)
    again = playbook(home, "model=reid", f"models_folder={models}")
    assert "0 of 3 files sent, 0 of" in again
    assert "changed=0" in again
    (models / "reid" / "lib" / "run.sh").write_text("#!/bin/sh\n# other\n")
    assert "1 of 3 files sent, 18 of" in playbook(home, "model=reid", f"models_folder={models}")


@pytest.mark.parametrize(
    ("model", "said"), [("../models/reid", "does not fit"), ("other", "is unknown; allowed: one of reid")]
)
def test_by_hand_a_model_that_is_none_is_refused(home: Path, models: Path, model: str, said: str) -> None:
    assert said in playbook(home, f"model={model}", f"models_folder={models}", check=False)
    assert not (home / ".evc").exists()


def test_by_hand_a_link_is_refused(home: Path, models: Path) -> None:
    (models / "reid" / "secrets").symlink_to("/etc")
    said = playbook(home, "model=reid", f"models_folder={models}", check=False)
    assert "reid/secrets: is a symbolic link" in said
    assert not (home / ".evc").exists()


def test_by_hand_another_revision_than_the_one_expected_is_refused(home: Path, models: Path) -> None:
    said = playbook(home, "model=reid", f"models_folder={models}", "revision=sha256:1", check=False)
    assert "was changed while it was about to be copied" in said
