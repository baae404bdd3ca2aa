"""The source of a model."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from evc.building import source as sources
from evc.building.options import build_options, image_labels
from evc.building.source import known_models, read_source
from evc.errors import InputError

MODEL = """\
name: reid
description: Tells people
  apart
task: reid
version: "1.0"
inputs: [file]
results: [{kind: person}]
build: {arguments: {BASE: "base/python:3.11", A: "x y"}}
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "reid"
    (folder / "lib").mkdir(parents=True)
    (folder / "model.yaml").write_text(MODEL)
    (folder / "Dockerfile").write_text("ARG BASE\nFROM $BASE\nCOPY . /app\n")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "lib" / "a.py").write_text("1\n")
    return tmp_path / "models"


def refusal(models: Path, name: str = "reid") -> str:
    with pytest.raises(InputError) as caught:
        read_source(models, name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_it_is_taken_stock_of_file_by_file(models: Path) -> None:
    source = read_source(models, "reid")
    assert [(file.path, file.size_bytes, file.executable) for file in source.files] == [
        ("Dockerfile", 32, False),
        ("lib/a.py", 2, False),
        ("model.yaml", len(MODEL), False),
        ("run.sh", 10, True),
    ]
    assert source.size_bytes == 32 + 2 + len(MODEL) + 10
    assert source.revision.startswith("sha256:")
    assert source.model.name == "reid"


def test_the_revision_is_that_of_every_checkout(models: Path, tmp_path: Path) -> None:
    before = read_source(models, "reid").revision
    shutil.copytree(models, tmp_path / "again")
    for path in (tmp_path / "again").rglob("*"):
        os.utime(path, (1, 1))
        if path.is_file():
            path.chmod(0o700 if path.name == "run.sh" else 0o600)
    (tmp_path / "again" / "reid" / "empty").mkdir()
    cache = tmp_path / "again" / "reid" / "lib" / "__pycache__"
    cache.mkdir()
    (cache / "a.cpython-311.pyc").write_bytes(b"x")
    assert read_source(tmp_path / "again", "reid").revision == before


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "run.sh").write_text("#!/bin/sh\n\n"),
        lambda folder: (folder / "run.sh").chmod(0o644),
        lambda folder: (folder / "run.sh").rename(folder / "run2.sh"),
        lambda folder: (folder / "new").write_text(""),
        lambda folder: (folder / "lib" / "a.py").unlink(),
        lambda folder: (folder / "model.yaml").write_text(MODEL + "# more\n"),
    ],
)
def test_the_revision_is_another_after_the_least_change(models: Path, change: Callable[[Path], object]) -> None:
    before = read_source(models, "reid").revision
    change(models / "reid")
    assert read_source(models, "reid").revision != before


def test_the_revision_stays_what_it_is(models: Path) -> None:
    """Revisions are kept in databases and on images: another way to count them makes all of them new."""
    assert read_source(models, "reid").revision == (
        "sha256:abd80592338b1ba7a18975a8d3e26023526dc3d13dbf35d63b60879c88c91f41"
    )


def test_what_is_ignored_does_not_count(models: Path) -> None:
    folder = models / "reid"
    (folder / ".dockerignore").write_text("data\n!data/keep\n*.md\nDockerfile\nmodel.yaml\n")
    before = read_source(models, "reid")
    (folder / "data" / "keep").mkdir(parents=True)
    (folder / "data" / "large").write_text("x")
    (folder / "README.md").write_text("x")
    (folder / "data" / "link").symlink_to("/etc/passwd")
    assert read_source(models, "reid") == before
    (folder / "data" / "keep" / "a").write_text("x")
    assert [file.path for file in read_source(models, "reid").files] == [
        ".dockerignore",
        "Dockerfile",
        "data/keep/a",
        "lib/a.py",
        "model.yaml",
        "run.sh",
    ]


def test_an_unknown_model_is_told_with_those_that_are_known(models: Path) -> None:
    shutil.copytree(models / "reid", models / "farm")
    (models / "notes").mkdir()
    (models / "file").write_text("x")
    assert known_models(models) == ["farm", "reid"]
    assert refusal(models, "other") == 'model: "other" is unknown; allowed: one of farm, reid'
    assert refusal(models, "notes").startswith("notes/model.yaml: is missing")
    shutil.rmtree(models / "farm")
    shutil.rmtree(models / "reid")
    assert "none yet" in refusal(models, "other")
    assert refusal(models / "nothing", "reid").startswith("[evc] models_folder: ")


@pytest.mark.parametrize("name", ["../models/reid", "reid/../reid", "/reid", ".", "..", "", "reid/", "REID"])
def test_a_name_leads_nowhere_else(models: Path, name: str) -> None:
    assert refusal(models, name).startswith("model: ")


def test_a_folder_has_its_models_name(models: Path) -> None:
    (models / "reid").rename(models / "other")
    assert refusal(models, "other").startswith('other/model.yaml:1: name: "reid" lies in folder "other"')


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (lambda folder: (folder / "Dockerfile").unlink(), "reid/Dockerfile: is missing"),
        (lambda folder: (folder / "a").symlink_to("run.sh"), "reid/a: is a symbolic link"),
        (lambda folder: (folder / "a").symlink_to("/etc"), "reid/a: is a symbolic link"),
        (lambda folder: (folder / "lib" / "a").symlink_to("nowhere"), "reid/lib/a: is a symbolic link"),
        (lambda folder: os.mkfifo(folder / "a"), "reid/a: is a special file"),
        (lambda folder: (folder / "a\nb").write_text(""), 'reid: the name "a\\nb" does not fit'),
        (lambda folder: Path(os.fsdecode(os.fsencode(folder) + b"/\xff")).write_text(""), "reid: the name "),
    ],
)
def test_what_is_neither_file_nor_folder_is_refused(models: Path, change: Callable[[Path], object], wrong: str) -> None:
    change(models / "reid")
    assert refusal(models).startswith(wrong)


@pytest.mark.parametrize("name", ["Dockerfile", "model.yaml"])
def test_its_own_files_are_no_links_either(models: Path, tmp_path: Path, name: str) -> None:
    (models / "reid" / name).rename(tmp_path / name)
    (models / "reid" / name).symlink_to(tmp_path / name)
    assert refusal(models).startswith(f"reid/{name}: ")


def test_a_socket_is_refused(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models / "reid")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        assert refusal(models).startswith("reid/s: is a special file")


def test_a_model_that_is_a_link_is_refused(models: Path, tmp_path: Path) -> None:
    (models / "reid").rename(tmp_path / "reid")
    (models / "reid").symlink_to(tmp_path / "reid")
    assert known_models(models) == []
    assert refusal(models).startswith("reid: is a symbolic link")


@pytest.mark.parametrize(
    ("limit", "wrong"),
    [("MAX_FILES", "reid: more than 3 files"), ("MAX_FILE_BYTES", "reid/"), ("MAX_BYTES", "reid: more than 3 bytes")],
)
def test_what_is_too_large_is_refused(models: Path, monkeypatch: pytest.MonkeyPatch, limit: str, wrong: str) -> None:
    monkeypatch.setattr(sources, limit, 3)
    assert refusal(models).startswith(wrong)


def test_options_of_the_build_are_one_line_each(models: Path) -> None:
    source = read_source(models, "reid")
    labels = image_labels(source)
    assert labels["org.opencontainers.image.description"] == "Tells people apart"
    assert labels["org.opencontainers.image.revision"] == labels["evc.source-revision"] == source.revision
    options = build_options(source, image="evc-build/reid:1", platform="linux/arm64", is_fresh=True)
    assert options[:3] == ["--tag=evc-build/reid:1", "--platform=linux/arm64", "--no-cache"]
    assert options[-2:] == ["--build-arg=A=x y", "--build-arg=BASE=base/python:3.11"]
    assert not any("\n" in option for option in options)
    assert build_options(source, image="x") == build_options(source, image="x")
