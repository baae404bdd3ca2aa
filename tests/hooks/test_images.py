"""Recording and deleting images of a real registry."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from evc.errors import ImageNotFound, InputError, RegistryAway, RegistryRefused
from evc.fleet.images import Image
from evc.fleet.nodes import make_node
from evc.hooks.images import MAX_LINES, ImagesHook
from evc.store.nodes import store_node
from evc.store.tables import assignments, rollouts
from tests.servers.airflow import DagRunner
from tests.servers.registry_faces import RegistryServer, running_registry

TS = 1_790_000_000
NOWHERE = "sha256:" + "0" * 64


@pytest.fixture
def registry(tmp_path: Path, dag_runner: DagRunner) -> Iterator[RegistryServer]:
    with running_registry(tmp_path / "registry") as server:
        dag_runner.connection("evc_registry", **server.connection)
        yield server


@pytest.fixture
def hook(registry: RegistryServer, caplog: pytest.LogCaptureFixture) -> ImagesHook:
    caplog.set_level(logging.INFO)
    return ImagesHook(logging.getLogger("tests.hooks.images"))


def rows(runner: DagRunner, columns: str) -> list[Any]:
    with sqlite3.connect(runner.state_folder / "metrics.db") as connection:
        return connection.execute(
            f"SELECT {columns} FROM registry_images ORDER BY repository, tag, digest"  # noqa: S608  a test's own words
        ).fetchall()


def assign(hook: ImagesHook, digest: str, *, running: bool) -> None:
    """Let node edge-1 have an image of reid."""
    with hook.engine.begin() as connection:
        node_id, _ = store_node(connection, make_node({"name": "edge-1", "host": "192.0.2.1"}), TS)
        connection.execute(
            insert(assignments).values(
                node_id=node_id,
                model="reid",
                repository="reid",
                digest=digest,
                running_digest=digest if running else None,
                spec={},
                ts=TS,
                status="running",
            )
        )


def test_what_the_registry_holds_is_recorded(
    hook: ImagesHook, registry: RegistryServer, dag_runner: DagRunner, caplog: pytest.LogCaptureFixture
) -> None:
    labels = {
        "org.opencontainers.image.description": "사람\x00 찾기\n둘째 줄\ud800",
        "org.opencontainers.image.revision": "sha256:" + "1" * 64,
    }
    digest = registry.push("reid", "1.0", "latest", labels=labels, architecture="arm64")
    registry.push("farm", "1", created="0001-01-01T00:00:00Z", labels={"org.opencontainers.image.title": "smart farm"})
    assert hook.sync() == {"images": 3, "added": 3, "back": 0, "gone": 0}
    columns = "repository, tag, platform, created_ts, description, source_revision, gone_ts"
    assert rows(dag_runner, columns) == [
        ("farm", "1", "linux/amd64", None, "smart farm", None, None),
        *[("reid", tag, "linux/arm64", 1767323045, "사람 찾기 둘째 줄", "sha256:" + "1" * 64, None)
          for tag in ("1.0", "latest")],
    ]  # fmt: skip
    assert all(size > 1000 for (size,) in rows(dag_runner, "size_bytes"))
    assert f"new: reid:1.0 {digest}, 0.0 MB, linux/arm64, 사람 찾기 둘째 줄" in caplog.text
    assert "3 images, 3 added, 0 back, 0 gone" in caplog.text
    assert "certificate" not in caplog.text


def test_a_second_look_reads_no_image_again(hook: ImagesHook, registry: RegistryServer, dag_runner: DagRunner) -> None:
    registry.push("reid", "1.0")
    hook.sync()
    log_file = registry.folder.path / "read-write.log"
    before = len(log_file.read_text())
    assert hook.sync() == {"images": 1, "added": 0, "back": 0, "gone": 0}
    asked = log_file.read_text()[before:]
    assert "HEAD /v2/reid/manifests/1.0" in asked
    assert "GET /v2/reid/manifests" not in asked
    assert "blobs" not in asked


def test_what_goes_is_marked_and_what_comes_back_is_not(
    hook: ImagesHook, registry: RegistryServer, dag_runner: DagRunner
) -> None:
    layers = [b"the same"]
    digest = registry.push("reid", "1.0", layers=layers)
    registry.push("reid", "2.0")
    hook.sync()
    with registry.client() as client:
        client.delete("reid", digest)
    assert hook.sync() == {"images": 1, "added": 0, "back": 0, "gone": 1}
    assert rows(dag_runner, "tag, gone_ts IS NULL") == [("1.0", 0), ("2.0", 1)]
    assert registry.push("reid", "1.0", layers=layers) == digest
    assert hook.sync() == {"images": 2, "added": 0, "back": 1, "gone": 0}
    assert rows(dag_runner, "tag, gone_ts IS NULL") == [("1.0", 1), ("2.0", 1)]


def test_a_registry_that_fails_marks_nothing_as_gone(
    hook: ImagesHook, registry: RegistryServer, dag_runner: DagRunner
) -> None:
    registry.push("reid", "1.0")
    hook.sync()
    registry.stop()
    with pytest.raises(RegistryAway, match="is it running"):
        hook.sync()
    assert rows(dag_runner, "gone_ts") == [(None,)]
    registry.start()
    registry.folder.read_write.accounts.revoke("evc")
    with pytest.raises(RegistryRefused, match="refused the account 'evc'"):
        hook.sync()
    assert rows(dag_runner, "gone_ts") == [(None,)]


def test_what_is_no_image_is_recorded_by_name_and_stops_nothing(
    hook: ImagesHook, registry: RegistryServer, dag_runner: DagRunner, caplog: pytest.LogCaptureFixture
) -> None:
    inner = registry.push("reid", "1.0")
    index = registry.push_index("reid", images={inner: "amd64"})
    registry.push_index("reid", "nested", images={index: "amd64"})
    assert hook.sync()["images"] == 2
    assert rows(dag_runner, "tag, size_bytes IS NULL") == [("1.0", 0), ("nested", 1)]
    assert "is not a manifest that EVC knows" in caplog.text


def test_many_changes_are_told_in_bounds(
    hook: ImagesHook, registry: RegistryServer, caplog: pytest.LogCaptureFixture
) -> None:
    registry.push("reid", *(str(number) for number in range(MAX_LINES + 5)))
    hook.sync()
    assert caplog.text.count("new: reid:") == MAX_LINES
    assert "new: and 5 more" in caplog.text


def test_the_end_of_the_certificate_is_told_in_time(
    hook: ImagesHook, registry: RegistryServer, caplog: pytest.LogCaptureFixture
) -> None:
    registry.folder.authority.issue(["127.0.0.1"], valid=timedelta(days=12, hours=1))
    registry.restart()
    hook.sync()
    day = datetime.now(UTC) + timedelta(days=12, hours=1)
    assert (
        f"its certificate ends in 12 days, on {day:%Y-%m-%d}; then no node can pull. Run `evc registry init`"
        in caplog.text
    )


def _check(runner: DagRunner) -> tuple[Any, ...]:
    with sqlite3.connect(runner.state_folder / "metrics.db") as connection:
        columns = "address, checked_ts, answered_ts, message, certificate_expires_ts"
        (row,) = connection.execute(f"SELECT {columns} FROM registry_checks").fetchall()  # noqa: S608  as above
        return tuple(row)


def test_whether_the_registry_answers_is_recorded(
    hook: ImagesHook, registry: RegistryServer, dag_runner: DagRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grafana's alerts read it."""
    hook.sync()
    address, first_ts, answered_ts, message, expires_ts = _check(dag_runner)
    assert (address, message, answered_ts) == (registry.address(registry.folder.read_write), None, first_ts)
    certificate = registry.folder.authority.server()
    assert certificate is not None
    assert expires_ts == int(certificate.expires.timestamp())
    registry.stop()
    monkeypatch.setattr("evc.hooks.images.time.time", lambda: first_ts + 300.5)
    with pytest.raises(RegistryAway) as told:
        hook.sync()
    assert _check(dag_runner) == (address, first_ts + 300, first_ts, str(told.value), expires_ts)
    registry.start()
    hook.sync()
    assert _check(dag_runner)[2:4] == (first_ts + 300, None)


# -- deleting ----------------------------------------------------------------------------------------------------------


def test_an_image_is_found_by_tag_digest_or_both(hook: ImagesHook, registry: RegistryServer) -> None:
    digest = registry.push("reid", "1.0")
    other = registry.push("reid", "2.0")
    assert hook.find("reid", "1.0", None) == Image("reid", digest, "1.0")
    assert hook.find("reid", None, digest) == Image("reid", digest)
    assert hook.find("reid", "1.0", digest) == Image("reid", digest, "1.0")
    with pytest.raises(InputError, match=f"tag and digest: reid:1.0 is {digest}"):
        hook.find("reid", "1.0", other)
    for nothing in (None, ""):
        with pytest.raises(InputError, match="tag or digest: neither is given"):
            hook.find("reid", nothing, nothing)


@pytest.mark.parametrize(
    ("repository", "tag", "digest", "wrong"),
    [
        ("reid", "9.9", None, "reid:9.9: there is none; reid has: 1.0"),
        ("reid", None, NOWHERE, f"reid@{NOWHERE}: there is none; reid has: 1.0"),
        ("reid", "1.0", NOWHERE, f"reid@{NOWHERE}: there is none; reid has: 1.0"),
        ("nowhere", "1.0", None, "nowhere:1.0: there is none; the registry has: reid"),
    ],
)
def test_what_is_not_there_is_an_error_that_says_what_is(
    hook: ImagesHook, registry: RegistryServer, repository: str, tag: str | None, digest: str | None, wrong: str
) -> None:
    registry.push("reid", "1.0")
    with pytest.raises(ImageNotFound) as caught:
        hook.find(repository, tag, digest)
    assert str(caught.value).endswith(wrong)


def test_deleting_lists_the_tags_before_and_marks_them(
    hook: ImagesHook, registry: RegistryServer, dag_runner: DagRunner, caplog: pytest.LogCaptureFixture
) -> None:
    digest = registry.push("reid", "1.0", "1", "latest")
    registry.push("reid", "2.0")
    hook.sync()
    caplog.clear()
    assert hook.delete(Image("reid", digest, "1.0"), force=False) == ["1", "1.0", "latest"]
    first, second = caplog.messages[:2]
    assert first == f"deleting reid:1.0@{digest}; the tags that go along: 1, 1.0, latest"
    assert second.startswith("deleted")
    assert rows(dag_runner, "tag, gone_ts IS NULL") == [("1", 0), ("1.0", 0), ("2.0", 1), ("latest", 0)]
    with registry.client() as client:
        assert client.tags("reid") == ["2.0"]


def test_a_retry_after_a_kill_completes_the_deletion(
    hook: ImagesHook, registry: RegistryServer, dag_runner: DagRunner
) -> None:
    digest = registry.push("reid", "1.0")
    hook.sync()
    image = hook.find("reid", "1.0", None)
    with registry.client() as client:  # as far as the try before got: deleted, not recorded
        client.delete("reid", digest)
    other = registry.push("reid", "1.0")  # and someone has pushed the tag anew since
    assert hook.delete(image, force=False) == ["1.0"]
    assert hook.delete(image, force=False) == []
    assert rows(dag_runner, "digest, gone_ts IS NULL") == [(digest, 0)]
    with registry.client() as client:
        assert client.tagged("reid") == {"1.0": other}


@pytest.mark.parametrize(("running", "word"), [(True, "running on edge-1"), (False, "assigned to edge-1")])
def test_what_a_node_needs_is_refused_unless_forced(
    hook: ImagesHook, registry: RegistryServer, running: bool, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    digest = registry.push("reid", "1.0")
    assign(hook, digest, running=running)
    image = Image("reid", digest, "1.0")
    for refused in (hook.check_unused, hook.delete):
        with pytest.raises(InputError, match=f"image: reid:1.0@{digest} is needed: {word}; allowed: .*force"):
            refused(image, force=False)
    with registry.client() as client:
        assert client.tags("reid") == ["1.0"]
    assert hook.delete(image, force=True) == ["1.0"]
    assert f"forced: reid:1.0@{digest} is needed: {word}" in caplog.text


def test_what_an_unfinished_rollout_needs_is_refused(hook: ImagesHook, registry: RegistryServer) -> None:
    digest = registry.push("reid", "1.0")
    with hook.engine.begin() as connection:
        connection.execute(
            insert(rollouts).values(
                run_id="r", model="reid", repository="reid", digest=digest, spec={}, waves=[1], success_threshold=90,
                error_threshold=10, status="running", deadline_ts=TS, created_ts=TS,
            )
        )  # fmt: skip
    with pytest.raises(InputError, match="is needed: unfinished roll-out 1;"):
        hook.delete(Image("reid", digest), force=False)


def test_a_face_that_does_not_delete_says_so(hook: ImagesHook, registry: RegistryServer, dag_runner: DagRunner) -> None:
    digest = registry.push("reid", "1.0")
    password = registry.folder.pull_only.accounts.grant("evc")
    pull_only = {"port": registry.folder.pull_only.port(), "password": password}
    dag_runner.connection("evc_registry", **{**registry.connection, **pull_only})
    with pytest.raises(RegistryRefused, match="not allowed on this face"):
        ImagesHook(hook.log).delete(Image("reid", digest), force=False)
