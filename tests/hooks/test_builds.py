"""Builds on a real builder, pushed to a real registry with TLS."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from evc.building.source import read_source
from evc.errors import (
    BuildFailed,
    EngineError,
    InputError,
    RegistryAway,
    RegistryRefused,
    Stopped,
)
from evc.hooks.builds import BuildsHook, Wanted, build_key
from evc.hooks.fleet import FleetHook
from evc.hooks.registry import RegistryHook
from evc.store.nodes import store_node
from tests.servers.airflow import DagRunner
from tests.servers.edge import EdgeFleet
from tests.servers.edge_node import EdgeNode

pytestmark = [pytest.mark.fleet, pytest.mark.xdist_group("fleet")]

MODEL = """\
name: reid
description: Tells people apart
task: reid
version: "1.0"
inputs: [file]
results: [{kind: person}]
architectures: [amd64, arm64]
build: {arguments: {BASE: "base/python:3.11", WORD: "two  blanks $(id)"}}
"""
DOCKERFILE = """\
ARG BASE
FROM ${BASE}
ARG WORD
RUN echo "the word is <$WORD>" > /word && cat /word
COPY . /app
"""


@dataclass
class Builds:
    """What a test needs to build: sources to change, a hook, the log, what is recorded."""

    models: Path
    builder: EdgeNode
    fleet: EdgeFleet
    lines: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.models / "reid"

    def hook(self) -> BuildsHook:
        log = logging.getLogger("tests.hooks.builds")
        log.setLevel(logging.INFO)
        return BuildsHook(log)

    def build(self, run_id: str = "run-1", **more: Any) -> dict[str, Any]:
        self.lines.clear()
        return self.hook().build(Wanted(run_id, **{"model": "reid", "builder": "builder", **more}))

    def rows(self, query: str = "SELECT run_id, status, digest FROM builds ORDER BY id") -> list[tuple[Any, ...]]:
        with self.hook().database.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    def said(self, *words: str) -> bool:
        return any(all(word in line for word in words) for line in self.lines)

    def in_image(self, *argv: str) -> str:
        """Run a command in the image that the registry's tag leads to."""
        address = self.fleet.registry.address(self.fleet.registry.push)
        return self.builder.run("docker", "run", f"{address}/reid:1.0", *argv)


class _Lines(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self.lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def builds(dag_runner: DagRunner, edge_fleet: EdgeFleet, builder: EdgeNode, tmp_path: Path) -> Iterator[Builds]:
    builder.run("rm", "-rf", "/root/.evc")
    folder = tmp_path / "models" / "reid"
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(MODEL)
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "run.py").write_text("print('hello')\n")
    (folder / "weights.bin").write_bytes(os.urandom(1_000_000))
    dag_runner.setting("models_folder", str(tmp_path / "models"))
    dag_runner.connect(edge_fleet)
    made = Builds(tmp_path / "models", builder, edge_fleet)
    with FleetHook(logging.getLogger("tests")).engine.begin() as connection:
        store_node(connection, builder.node(), int(time.time()))
    log, handler = logging.getLogger("tests.hooks.builds"), _Lines(made.lines)
    log.addHandler(handler)
    yield made
    log.removeHandler(handler)


def test_the_whole_way(builds: Builds, capsys: pytest.CaptureFixture[str]) -> None:
    result = builds.build()
    source = read_source(builds.models, "reid")
    assert result == {
        "model": "reid",
        "version": "1.0",
        "repository": "reid",
        "tag": "1.0",
        "digest": result["digest"],
        "platform": "linux/amd64",
        "source_revision": source.revision,
        "status": "succeeded",
    }
    assert builds.said("the word is <two  blanks $(id)>")
    assert builds.said("4 of 4 files sent")
    assert builds.said("layers done")
    query = "SELECT run_id, model, tag, platform, status, digest, source_revision, size_bytes > 1000000 FROM builds"
    expected = ("run-1", "reid", "1.0", "linux/amd64", "succeeded", result["digest"], source.revision, 1)
    assert builds.rows(query) == [expected]
    ((spec, revision),) = builds.rows("SELECT spec, source_revision FROM models WHERE name = 'reid'")
    assert json.loads(spec) == source.model.model_dump(mode="json")
    assert revision == source.revision
    registry = builds.fleet.registry
    with builds.builder.engine() as engine:
        image = engine.images.get(f"{registry.address(registry.push)}/reid@{result['digest']}")
        assert image.labels == {
            "org.opencontainers.image.title": "reid",
            "org.opencontainers.image.description": "Tells people apart",
            "org.opencontainers.image.version": "1.0",
            "org.opencontainers.image.revision": source.revision,
            "evc.model": "reid",
            "evc.source-revision": source.revision,
        }
        assert not [tag for each in engine.images.list() for tag in each.tags if tag.startswith("evc-build")]
    password = registry.push.account.password
    assert not builds.said(password)
    assert "push" not in builds.builder.run("sh", "-c", "cat /root/.docker/config.json 2>&1 || true")
    assert password not in builds.builder.run("sh", "-c", "cat /root/.docker/* /root/.evc/* 2>&1 || true")
    assert password not in capsys.readouterr().out


def test_the_same_again_is_unchanged_and_force_builds_it(builds: Builds) -> None:
    first = builds.build()
    second = builds.build("run-2")
    assert second == {**first, "status": "unchanged"}
    assert builds.said("unchanged: reid:1.0 was built from this very source")
    assert not builds.said("files sent")
    assert not builds.said("pushing")
    third = builds.build("run-3", force=True)
    assert third["status"] == "succeeded"
    assert builds.said("0 of 4 files sent, 0 of")
    assert builds.said("pushed")
    assert [row[:2] for row in builds.rows()] == [
        ("run-1", "succeeded"),
        ("run-2", "unchanged"),
        ("run-3", "succeeded"),
    ]


def test_only_what_changed_travels_and_what_was_removed_is_gone(builds: Builds) -> None:
    builds.build()
    (builds.folder / "run.py").write_text("print('hello again')\n")
    (builds.folder / "weights.bin").rename(builds.folder / "w.bin")
    second = builds.build("run-2")
    assert second["status"] == "succeeded"
    assert builds.said("1 of 4 files sent, 21 of 1000")
    assert builds.in_image("ls", "/app").split() == ["Dockerfile", "model.yaml", "run.py", "w.bin"]
    assert "again" in builds.in_image("cat", "/app/run.py")


def test_the_image_holds_what_the_source_holds(builds: Builds) -> None:
    """What counts as source is what the engine sends into a build: ``.dockerignore`` is read alike by both."""
    for name in ("a.md", "docs/b.md", "docs/deep/c.md", "docs/keep.md", "data/1", "data/keep/2", "x/y/z/n", "x/n", "n"):
        path = builds.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    lines = ["# ours", "*.md", "docs/**/*.md", "!docs/keep.md", "data", "!data/keep", "x/**/n", "/n/", "weights.?in"]
    (builds.folder / ".dockerignore").write_text("\n".join(lines))
    (builds.folder / "run.py").chmod(0o755)
    builds.build()
    there = builds.in_image(
        "python3", "-c", "import os; [print(os.path.join(a, f)) for a, _, c in os.walk('/app') for f in c]"
    )
    expected = {f"/app/{file.path}" for file in read_source(builds.models, "reid").files}
    assert set(there.split()) == expected
    assert "/app/docs/keep.md" in expected
    assert "/app/data/1" not in expected
    assert (
        builds.in_image("python3", "-c", "import os; print(oct(os.stat('/app/run.py').st_mode))").strip() == "0o100755"
    )


def test_an_image_that_was_deleted_or_replaced_is_built_again(builds: Builds) -> None:
    first = builds.build()
    with RegistryHook().client() as client:
        client.delete("reid", first["digest"])
    assert builds.build("run-2")["status"] == "succeeded"
    builds.fleet.push_image("reid", "1.0")
    assert builds.build("run-3")["status"] == "succeeded"
    assert builds.said("the registry has it no more")


def test_another_tag_or_argument_is_another_build(builds: Builds) -> None:
    first = builds.build()
    second = builds.build("run-2", tag="beta")
    assert (second["tag"], second["status"], second["digest"]) == ("beta", "succeeded", first["digest"])
    third = builds.build("run-3", arguments={"WORD": "other"})
    assert third["digest"] != first["digest"]
    assert builds.build("run-4", arguments={"WORD": "other"})["status"] == "unchanged"
    assert builds.build("run-5")["status"] == "succeeded"


@pytest.mark.parametrize(
    ("more", "wrong"),
    [
        ({"model": "other"}, 'model: "other" is unknown; allowed: one of reid'),
        ({"model": "../models/reid"}, "model: "),
        ({"builder": "nobody"}, 'builder: "nobody" is not registered; allowed: a registered node: builder'),
        ({"tag": "a b"}, 'tag: "a b" does not fit'),
        ({"platform": "linux/arm64"}, "platform: builder is amd64 and its kernel has no handler that runs arm64"),
        ({"platform": "linux/arm/v7"}, "platform: the model is not made for arm; allowed: its architectures"),
        ({"arguments": {"a b": "x"}}, "arguments: "),
        ({"arguments": {"A": "x\ny"}}, "arguments: "),
    ],
)
def test_what_can_not_work_is_refused_before_anything_is_copied(
    builds: Builds, more: dict[str, Any], wrong: str
) -> None:
    with pytest.raises(InputError) as caught:
        builds.build(**more)
    assert str(caught.value).startswith(wrong)
    assert builds.rows() == []
    assert not builds.said("files sent")
    assert builds.builder.run("ls", "-a", "/root").split().count(".evc") == 0


def test_a_dockerfile_that_is_broken_ends_with_the_reason(builds: Builds) -> None:
    (builds.folder / "Dockerfile").write_text(DOCKERFILE + "RUN echo no such camera >&2; exit 7\n")
    with pytest.raises(BuildFailed, match="returned a non-zero code: 7 .*no such camera"):
        builds.build()
    ((run_id, status, digest),) = builds.rows()
    assert (run_id, status, digest) == ("run-1", "failed", None)
    ((message,),) = builds.rows("SELECT message FROM builds")
    assert "no such camera" in message
    (builds.folder / "Dockerfile").write_text(DOCKERFILE)
    assert builds.build()["status"] == "succeeded"
    assert [row[:2] for row in builds.rows()] == [("run-1", "succeeded")]


def test_a_base_that_nobody_has_ends_with_the_reason(builds: Builds) -> None:
    registry = builds.fleet.registry
    with pytest.raises(BuildFailed, match="ended with 1: .*nobody"):
        builds.build(arguments={"BASE": f"{registry.address(registry.push)}/nobody/has-it:1"})


def test_a_registry_that_is_down_is_told_before_the_build(builds: Builds) -> None:
    builds.fleet.registry.stop()
    try:
        with pytest.raises(RegistryAway, match="does not answer"):
            builds.build()
    finally:
        builds.fleet.registry.start()
    assert builds.rows() == []


def test_a_registry_that_goes_down_during_the_push(builds: Builds) -> None:
    (builds.folder / "weights.bin").write_bytes(os.urandom(200_000))
    begin = _when(builds, "pushing", builds.fleet.registry.stop)
    try:
        with pytest.raises(EngineError, match="push of"):
            builds.build()
    finally:
        begin.join()
        builds.fleet.registry.start()
    ((_, status, digest),) = builds.rows()
    assert (status, digest) == ("failed", None)
    assert builds.build()["status"] == "succeeded"
    assert len(builds.rows()) == 1


def test_an_account_that_is_refused(builds: Builds, dag_runner: DagRunner) -> None:
    registry = builds.fleet.registry
    dag_runner.connection(
        "evc_registry",
        conn_type="docker",
        host=registry.host,
        port=registry.push.port,
        login=registry.push.account.login,
        password="wrong-password",  # noqa: S106
        extra={"ca_path": str(registry.ca_file)},
    )
    with pytest.raises(RegistryRefused) as caught:
        builds.build()
    assert "wrong-password" not in str(caught.value)
    assert builds.rows() == []


def test_builds_at_once_do_not_mix_their_sources(builds: Builds) -> None:
    results: list[tuple[str, Any]] = []

    def build(number: int) -> None:
        results.append((str(number), builds.hook().build(Wanted(f"run-{number}", "reid", "builder", f"t{number}"))))

    threads = []
    for number in range(3):
        (builds.folder / "run.py").write_text(f"print({number})\n")
        threads.append(threading.Thread(target=build, args=(number,)))
        threads[-1].start()
        _until(lambda: sum("files sent" in line for line in builds.lines) == len(threads))
    for thread in threads:
        thread.join()
    address = builds.fleet.registry.address(builds.fleet.registry.push)
    for name, result in results:
        image = f"{address}/reid@{result['digest']}"
        assert builds.builder.run("docker", "run", image, "cat", "/app/run.py") == f"print({name})\n"
    assert len({result["digest"] for _, result in results}) == 3


def test_a_build_that_is_stopped(builds: Builds) -> None:
    (builds.folder / "Dockerfile").write_text(DOCKERFILE + "RUN echo sleeping; sleep 600\n")
    hook = builds.hook()
    stopper = _when(builds, "sleeping", hook.stop)
    begin = time.monotonic()
    with pytest.raises(Stopped):
        hook.build(Wanted("run-1", "reid", "builder"))
    stopper.join()
    assert time.monotonic() - begin < 60
    assert [row[:2] for row in builds.rows()] == [("run-1", "failed")]


KILLED = """\
import logging, sys
from evc.hooks.builds import BuildsHook, Wanted
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
log = logging.getLogger("killed")
BuildsHook(log).build(Wanted("run-1", "reid", "builder"))
print("done", flush=True)
"""


@pytest.mark.parametrize("stage", ["source sha256", "files sent", "Step 4/", "pushing"])
def test_killed_and_tried_again(builds: Builds, stage: str) -> None:
    process = subprocess.Popen([sys.executable, "-u", "-c", KILLED], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    for line in process.stdout:
        if stage in line:
            process.kill()
            break
    process.wait()
    assert process.returncode == -signal.SIGKILL
    assert [row[:2] for row in builds.rows()] == [("run-1", "running")]
    result = builds.build()
    assert builds.rows() == [("run-1", "succeeded", result["digest"])]
    again = builds.build()
    assert again == result
    assert builds.said("an earlier try of this task has built")
    assert builds.in_image("cat", "/app/run.py") == "print('hello')\n"


def _when(builds: Builds, words: str, do: Callable[[], object]) -> threading.Thread:
    """Do something as soon as a line of the log holds ``words``."""

    def wait() -> None:
        _until(lambda: builds.said(words))
        do()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def _until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def test_keys_of_builds_tell_dags_and_tasks_apart() -> None:
    assert build_key("build_model", "build", "manual__1") == "manual__1"
    assert build_key("scenario_farm", "build", "manual__1") == "scenario_farm.build manual__1"
    # as long as Airflow allows, it is kept as it is: who looks it up need not know how it was shortened
    assert build_key("d" * 250, "t" * 250, "r" * 250) == f"{'d' * 250}.{'t' * 250} {'r' * 250}"
