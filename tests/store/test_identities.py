"""Identities in the database, on both: each line is linked once, whatever becomes of who links."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from sqlalchemy import Engine, select

from evc.errors import InputError, Stopped
from evc.fleet.results import read_line
from evc.identities.link import Rules, link
from evc.inference.match import Matched, Order, match_identities
from evc.store.identities import (
    NewSightings,
    Way,
    forget_before,
    load_gallery,
    new_sightings,
    node_places,
    open_gallery,
    store_links,
    ways,
)
from evc.store.inference import Chunk, Run, open_run, reset_run, store_chunk
from evc.store.tables import identities, identity_visits, nodes
from reid.description import encode
from tests.identities.people import looks
from tests.store.batches import TS, store_with_nodes

ALICE, BOB = looks(2)
LOG = logging.getLogger("test")
ORDER = Order("shop", ["reid"], rules=Rules(similarity_min=0.8))
Line = dict[str, object]


def line(track: str, after_s: int, vector: np.ndarray | None, describer: str = "test-1", **more: object) -> Line:
    looks_ = {} if vector is None else {"embedding": encode(vector), "describer": describer}
    return {"kind": "person", "label": track, "ts": TS + after_s, **looks_, **more}


def tell(engine: Engine, node_id: int, lines: list[Line], run_id: str = "once", *, anew: int = 0) -> Run:
    given = {
        "run_id": run_id, "node_id": node_id, "model": "reid", "digest": "sha256:" + "a" * 64, "mode": "once",
        "status": "running", "started_ts": TS + anew,
    }  # fmt: skip
    with engine.begin() as connection:
        run = open_run(connection, given)
        if anew:
            run = reset_run(connection, run, given)
        results = [read_line(json.dumps(each).encode(), TS * 10**9) for each in lines]
        return store_chunk(connection, Chunk(run, results, "", {}))


def place(engine: Engine) -> None:
    """Put the nodes 500 m apart."""
    with engine.begin() as connection:
        for number in (1, 2, 3):
            values = {"latitude": 37.5 + 0.0045 * number, "longitude": 127.0}
            connection.execute(nodes.update().where(nodes.c.id == number).values(values))


def visits(engine: Engine) -> list[tuple[int, int, str, int, int]]:
    told = identity_visits.c
    query = select(told.identity_id, told.node_id, told.track, told.ts - TS, told.sightings)
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(query.order_by(told.identity_id, told.ts, told.track))]


def ways_of(engine: Engine) -> list[tuple[int, int, int, int, int]]:
    with engine.connect() as connection:
        found = ways(connection, "shop", TS, TS + 10_000)
    return [(it.identity_id, it.from_node_id, it.to_node_id, it.left_ts - TS, it.ts - TS) for it in found]


def test_who_was_seen_where_and_when(engine: Engine) -> None:
    store_with_nodes(engine, 3)
    place(engine)
    tell(engine, 1, [line("a", 0, ALICE), line("a", 4, ALICE), line("b", 10, BOB), line("b", 11, None)])
    tell(engine, 2, [line("x", 400, ALICE), {"kind": "frame", "frame": 1}])
    assert match_identities(engine, ORDER, LOG) == Matched(5, 1, 3, 2, 2)
    assert visits(engine) == [(1, 1, "a", 0, 2), (1, 2, "x", 400, 1), (2, 1, "b", 10, 1)]
    with engine.connect() as connection:
        row = connection.execute(select(identities).where(identities.c.id == 1)).mappings().one()
        assert ways(connection, "shop", TS, TS + 1000) == [Way(1, 1, 2, TS + 4, TS + 400)]
        assert ways(connection, "shop", TS, TS + 399) == []
    assert (row["ts"], row["end_ts"], row["visits"], row["nodes"], row["sightings"]) == (TS, TS + 400, 2, 2, 3)
    assert np.allclose(np.frombuffer(row["total"], "<f4"), 3 * ALICE, atol=0.01)


def test_a_second_time_there_is_nothing_to_do(engine: Engine) -> None:
    store_with_nodes(engine, 3)
    tell(engine, 1, [line("a", 0, ALICE), line("b", 1, BOB), {"kind": "frame", "frame": 0}])
    match_identities(engine, ORDER, LOG)
    before = visits(engine)
    assert match_identities(engine, ORDER, LOG) == Matched()
    assert visits(engine) == before


def test_new_and_late_lines_go_on_from_what_is_known(engine: Engine) -> None:
    store_with_nodes(engine, 3)
    place(engine)
    tell(engine, 1, [line("a", 0, ALICE)])
    tell(engine, 3, [line("c", 700, ALICE)])
    match_identities(engine, ORDER, LOG)
    assert ways_of(engine) == [(1, 1, 3, 0, 700)]
    tell(engine, 3, [line("c", 705, ALICE)])
    tell(engine, 2, [line("b", 350, ALICE), line("d", 690, ALICE)])  # was away until now
    match_identities(engine, ORDER, LOG)
    assert visits(engine) == [(1, 1, "a", 0, 1), (1, 2, "b", 350, 1), (1, 3, "c", 700, 2), (2, 2, "d", 690, 1)]
    assert ways_of(engine) == [(1, 1, 2, 0, 350), (1, 2, 3, 350, 700)]


def test_line_by_line_is_as_all_at_once(engine: Engine) -> None:
    store_with_nodes(engine, 3)
    tell(
        engine,
        1,
        [
            line(name, 10 * at, vector)
            for at, (name, vector) in enumerate(zip("aabb", [ALICE] * 2 + [BOB] * 2, strict=True))
        ],
    )
    tell(engine, 2, [line("x", 500, BOB)])
    match_identities(engine, Order("whole", ["reid"], rules=ORDER.rules), LOG)
    whole = visits(engine)
    with engine.begin() as connection:
        forget_before(connection, "whole", TS + 10_000)
    match_identities(engine, Order("whole 2", ["reid"], rules=ORDER.rules, lines_at_once=1), LOG)
    assert visits(engine) == whole


def test_of_two_tasks_that_read_the_same_one_stores(engine: Engine) -> None:
    store_with_nodes(engine, 1)
    tell(engine, 1, [line("a", 0, ALICE)])
    with engine.begin() as connection:
        version = open_gallery(connection, "shop")
        new = new_sightings(connection, "shop", ["reid"])
        assert new.first_ts == TS
    with engine.connect() as connection:
        gallery = load_gallery(connection, version, "test-1", 0)
    linked = [link(gallery, new.by_describer["test-1"], {})]
    with engine.begin() as connection:
        after = store_links(connection, version, new, linked)
    assert (after.version, after.next_id) == (1, 2)
    with pytest.raises(Stopped), engine.begin() as connection:
        store_links(connection, version, new, linked)
    assert len(visits(engine)) == 1


def test_vectors_of_two_describers_are_never_compared(engine: Engine) -> None:
    store_with_nodes(engine, 2)
    tell(engine, 1, [line("a", 0, ALICE), line("b", 50, ALICE, "other-1"), line("c", 99, ALICE[:32], "other-1")])
    assert match_identities(engine, ORDER, LOG).skipped == 1
    with engine.connect() as connection:
        rows = connection.execute(select(identities.c.id, identities.c.describer).order_by(identities.c.id)).all()
    assert [tuple(row) for row in rows] == [(1, "other-1"), (2, "test-1")]


def test_a_run_that_is_done_anew_leaves_nothing_of_the_old_one(engine: Engine) -> None:
    store_with_nodes(engine, 2)
    tell(engine, 1, [line("1", 0, ALICE), line("2", 1, BOB)])
    tell(engine, 2, [line("1", 900, ALICE)])
    match_identities(engine, ORDER, LOG)
    assert [way[1:] for way in ways_of(engine)] == [(1, 2, 0, 900)]
    tell(engine, 1, [line("1", 2000, BOB), line("2", 2000, ALICE), line("3", 2900, BOB)], anew=1500)
    match_identities(engine, ORDER, LOG)
    assert [way[1:] for way in ways_of(engine)] == [(2, 1, 900, 2000)]
    assert [(node, track, at) for _, node, track, at, _ in visits(engine)] == [
        (2, "1", 900), (1, "2", 2000), (1, "1", 2000), (1, "3", 2900)
    ]  # fmt: skip
    assert len({row[0] for row in visits(engine)}) == 2


def test_who_was_not_seen_for_long_is_forgotten(engine: Engine) -> None:
    store_with_nodes(engine, 1)
    tell(engine, 1, [line("a", 0, ALICE), line("b", 5000, BOB)])
    match_identities(engine, ORDER, LOG)
    with engine.begin() as connection:
        assert forget_before(connection, "shop", TS + 100) == 1
        assert open_gallery(connection, "shop").next_id == 3
        forgotten = open_gallery(connection, "shop")
        assert forget_before(connection, "shop", TS + 100) == 0
        assert open_gallery(connection, "shop") == forgotten  # who links just now may go on
    assert [row[2] for row in visits(engine)] == ["b"]


def test_damaged_lines_are_counted_and_nodes_can_be_chosen(engine: Engine) -> None:
    store_with_nodes(engine, 2)
    damaged = [line("a", 0, None, embedding="x", describer="test-1"), line("", 0, ALICE), line("b", 0, ALICE, "")]
    damaged.append({"kind": "person", "label": "c", "embedding": 7, "describer": ["x"]})
    tell(engine, 1, damaged)
    tell(engine, 2, [line("a", 0, ALICE)])
    assert match_identities(engine, Order("one", ["reid"], [1]), LOG) == Matched(lines=4, skipped=4)
    assert match_identities(engine, Order("none", ["other"]), LOG) == Matched()
    assert NewSightings({}, {}, 0, 0).first_ts is None
    with engine.connect() as connection:
        assert node_places(connection) == {1: None, 2: None}


def test_rules_are_checked() -> None:
    with pytest.raises(InputError):
        Rules(forget_s=0)
