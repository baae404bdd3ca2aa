from __future__ import annotations

from sqlalchemy import Engine

from evc.store.nodes import remove_node
from evc.store.samples import latest_samples, sample_rows
from evc.store.writer import Batch, write
from tests.store.batches import TS, sample, store_with_nodes, sweep_batch


def test_samples_of_a_node_come_newest_first(engine: Engine) -> None:
    ids = store_with_nodes(engine, 2)
    for sweep in range(4):
        write(engine, sweep_batch(ids, TS + 30 * sweep))
    with engine.connect() as connection:
        rows = sample_rows(connection, "n2", limit=3)
        assert [row["ts"] for row in rows] == [TS + 90, TS + 60, TS + 30]
        assert rows[0] == {"node": "n2", **sample(ids[1], TS + 90)}
        assert sample_rows(connection, "ghost") == []


def test_the_latest_sample_of_each_node(engine: Engine) -> None:
    ids = store_with_nodes(engine, 4)  # the fourth never answered and was never asked
    write(engine, Batch({"node_samples": [sample(ids[0]), sample(ids[1]), sample(ids[2])]}))
    write(engine, Batch({"node_samples": [sample(ids[1], TS + 30)]}))
    with engine.begin() as connection:
        remove_node(connection, "n3", TS)
        rows = latest_samples(connection)
    assert rows == [{"node": "n1", **sample(ids[0])}, {"node": "n2", **sample(ids[1], TS + 30)}]


def test_a_node_that_took_a_removed_one_s_name_has_only_its_own_samples(engine: Engine) -> None:
    ids = store_with_nodes(engine, 1)
    write(engine, sweep_batch(ids))
    with engine.begin() as connection:
        remove_node(connection, "n1", TS)
        assert sample_rows(connection, "n1") == []
