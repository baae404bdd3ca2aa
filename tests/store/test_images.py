"""Images of the registry in the metrics database, on SQLite and PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, Engine, Table, insert, update

from evc.fleet.nodes import make_node
from evc.store.images import Details, Tagged, Users, image_rows, image_users, known_details, mark_gone, record_images
from evc.store.nodes import remove_node, store_node
from evc.store.tables import assignments, inference_runs, registry_images, rollout_nodes, rollouts

TS = 1_790_000_000
A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
REID = Details(1000, "linux/arm64", TS - 50, "사람 찾기", "sha256:" + "0" * 64)
NOBODY = Users([], [], [], [])


def record(engine: Engine, found: dict[Tagged, Details], ts: int) -> tuple[list[Tagged], list[Tagged], list[Tagged]]:
    with engine.begin() as connection:
        changes = record_images(connection, found, ts)
    return list(changes.added), list(changes.back), list(changes.gone)


def rows(engine: Engine, gone: bool = False) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        return image_rows(connection, gone)


def test_images_are_stored_once_with_all_they_tell(engine: Engine) -> None:
    found = {("reid", "1", A): REID, ("reid", "latest", A): REID, ("farm", "1", B): Details()}
    assert record(engine, found, TS) == (sorted(found), [], [])
    assert record(engine, found, TS + 300) == ([], [], [])
    first, second, third = rows(engine)
    assert list(first) == [column.name for column in registry_images.columns]
    assert (first["repository"], first["tag"], first["digest"], first["size_bytes"]) == ("farm", "1", B, None)
    assert {key: second[key] for key in ("size_bytes", "platform", "created_ts", "description", "source_revision")} == {
        "size_bytes": 1000,
        "platform": "linux/arm64",
        "created_ts": TS - 50,
        "description": "사람 찾기",
        "source_revision": "sha256:" + "0" * 64,
    }
    assert (second["first_seen_ts"], second["last_seen_ts"], second["gone_ts"]) == (TS, TS + 300, None)
    assert (third["tag"], third["digest"]) == ("latest", A)


def test_what_is_gone_is_marked_and_what_comes_back_is_not_any_more(engine: Engine) -> None:
    one, two = ("reid", "1", A), ("reid", "2", B)
    record(engine, {one: REID, two: REID}, TS)
    assert record(engine, {one: REID}, TS + 300) == ([], [], [two])
    assert [row["tag"] for row in rows(engine)] == ["1"]
    assert [(row["tag"], row["gone_ts"], row["last_seen_ts"]) for row in rows(engine, gone=True)] == [
        ("1", None, TS + 300),
        ("2", TS + 300, TS),
    ]
    assert record(engine, {one: REID}, TS + 600) == ([], [], []), "gone once"
    assert rows(engine, gone=True)[1]["gone_ts"] == TS + 300
    assert record(engine, {one: REID, two: REID}, TS + 900) == ([], [two], [])
    assert rows(engine)[1]["gone_ts"] is None
    assert rows(engine)[1]["first_seen_ts"] == TS
    assert record(engine, {}, TS + 1200) == ([], [], [one, two])


def test_a_tag_that_leads_elsewhere_is_another_row(engine: Engine) -> None:
    record(engine, {("reid", "latest", A): REID}, TS)
    assert record(engine, {("reid", "latest", B): REID}, TS + 300) == (
        [("reid", "latest", B)],
        [],
        [("reid", "latest", A)],
    )
    assert [(row["digest"], row["gone_ts"]) for row in rows(engine, gone=True)] == [(A, TS + 300), (B, None)]


def test_what_is_known_of_a_digest_is_not_forgotten_and_need_not_be_read_again(engine: Engine) -> None:
    record(engine, {("reid", "1", A): REID, ("reid", "2", B): Details()}, TS)
    record(engine, {("reid", "1", A): Details(), ("reid", "2", B): Details()}, TS + 300)
    with engine.connect() as connection:
        assert known_details(connection) == {("reid", A): REID}


def test_many_images_at_once(engine: Engine) -> None:
    found = {(f"model-{n % 40:02}", str(n), A): REID for n in range(3000)}
    assert len(record(engine, found, TS)[0]) == 3000
    assert len(record(engine, dict(list(found.items())[:10]), TS + 300)[2]) == 2990


def test_deleting_marks_every_tag_of_the_digest_and_no_other(engine: Engine) -> None:
    found = {("reid", "1", A): REID, ("reid", "latest", A): REID, ("reid", "2", B): REID, ("farm", "1", A): REID}
    record(engine, found, TS)
    with engine.begin() as connection:
        assert mark_gone(connection, "reid", A, TS + 60) == ["1", "latest"]
        assert mark_gone(connection, "reid", A, TS + 90) == []
        assert mark_gone(connection, "nowhere", A, TS + 90) == []
    assert [(row["repository"], row["tag"]) for row in rows(engine)] == [("farm", "1"), ("reid", "2")]
    assert {row["gone_ts"] for row in rows(engine, gone=True)} == {None, TS + 60}


# -- who uses an image -------------------------------------------------------------------------------------------------


def add(connection: Connection, table: Table, **values: Any) -> int:
    filled = {
        "repository": "reid",
        "model": "reid",
        "spec": {},
        "waves": [1],
        "success_threshold": 90,
        "error_threshold": 10,
        "deadline_ts": TS,
        "created_ts": TS,
        "started_ts": TS,
        "ts": TS,
        "lines": 0,
        "wave": 0,
        "status": "running",
    }
    filled = {name: value for name, value in filled.items() if name in table.c}
    key = connection.execute(insert(table).values(**{**filled, **values})).inserted_primary_key
    return int(key[0]) if key else 0


@pytest.fixture
def fleet(engine: Engine) -> dict[str, int]:
    """Ids of three registered nodes, by name."""
    with engine.begin() as connection:
        return {
            name: store_node(connection, make_node({"name": name, "host": f"192.0.2.{n}"}), TS)[0]
            for n, name in enumerate(["edge-1", "edge-2", "edge-3"], 1)
        }


def users(engine: Engine, digest: str, repository: str = "reid") -> Users:
    with engine.connect() as connection:
        return image_users(connection, repository, digest)


def test_nodes_that_run_or_should_have_an_image_use_it(engine: Engine, fleet: dict[str, int]) -> None:
    assert users(engine, A) == NOBODY
    assert not users(engine, A)
    with engine.begin() as connection:
        add(connection, assignments, node_id=fleet["edge-2"], digest=A, running_digest=A)
        add(connection, assignments, node_id=fleet["edge-1"], digest=A, running_digest=B)
        add(connection, assignments, node_id=fleet["edge-3"], digest=A, status="pending")
        add(connection, assignments, node_id=fleet["edge-3"], digest=C, model="farm", repository="farm")
    assert users(engine, A) == Users(["edge-2"], ["edge-1", "edge-3"], [], [])
    assert users(engine, B) == Users(["edge-1"], [], [], [])
    assert users(engine, C) == NOBODY, "another repository's"
    assert users(engine, C, "farm") == Users([], ["edge-3"], [], [])
    with engine.begin() as connection:
        remove_node(connection, "edge-1", TS)
    assert users(engine, A) == Users(["edge-2"], ["edge-3"], [], [])
    assert not users(engine, B)


def test_unfinished_rollouts_use_what_they_bring_and_what_they_may_go_back_to(
    engine: Engine, fleet: dict[str, int]
) -> None:
    with engine.begin() as connection:
        done = add(connection, rollouts, run_id="done", digest=A, finished_ts=TS)
        going = add(connection, rollouts, run_id="going", digest=B)
        previous = {"previous_digest": C, "previous_repository": "reid"}
        add(connection, rollout_nodes, rollout_id=done, node_id=fleet["edge-1"], previous_digest=A)
        add(connection, rollout_nodes, rollout_id=going, node_id=fleet["edge-1"], **previous)
        add(connection, rollout_nodes, rollout_id=going, node_id=fleet["edge-2"], **previous)
    assert users(engine, A) == NOBODY
    assert users(engine, B) == Users([], [], [], [going])
    assert users(engine, C) == Users([], [], [], [going])
    assert users(engine, C, "farm") == NOBODY
    with engine.begin() as connection:
        connection.execute(update(rollouts).values(finished_ts=TS))
    assert users(engine, B) == users(engine, C) == NOBODY


def test_an_inference_under_way_uses_its_image(engine: Engine, fleet: dict[str, int]) -> None:
    with engine.begin() as connection:
        run = {"node_id": fleet["edge-1"], "digest": A}
        add(connection, inference_runs, run_id="a", mode="once", **run)
        add(connection, inference_runs, run_id="b", mode="once", finished_ts=TS, **{**run, "digest": B})
        add(connection, inference_runs, run_id="c", mode="continuous", **{**run, "digest": C})
    assert users(engine, A) == Users([], [], ["edge-1"], [])
    assert users(engine, B) == users(engine, C) == NOBODY
