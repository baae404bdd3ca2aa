from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import replace

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.exc import IntegrityError

from evc.errors import InputError
from evc.fleet.nodes import Node
from evc.store.nodes import (
    find_node,
    list_nodes,
    node_rows,
    nodes_to_locate,
    pin_host_key,
    remove_node,
    set_facts,
    set_location,
    store_node,
)
from evc.store.tables import nodes
from evc.store.writer import Batch, readings, write
from tests.store.batches import TS, reading, store_node_at, store_with_nodes, sweep_batch

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1cvW8a2qHxkmZpRYl1cvW8a2qHxkmZpRYl1cvW8a2q"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIL2dvW8a2qHxkmZpRYl1cvW8a2qHxkmZpRYl1cvW8a2q"
NODE = Node(
    name="smartfarm-1",
    host="10.0.0.1",
    port=2222,
    user="root",
    groups=("barn", "pi"),
    labels={"site": "수원"},
    address="경기도 수원시",
    host_key=KEY,
    conn_id="barn_key",
    jump_node="gateway",
    thermal_unit="deci_kelvin",
)


def test_a_node_comes_back_as_it_was_stored(engine: Engine) -> None:
    with engine.begin() as connection:
        node_id, created = store_node(connection, NODE, TS)
    with engine.connect() as connection:
        assert created
        assert find_node(connection, "smartfarm-1") == replace(NODE, id=node_id)
        assert list_nodes(connection) == [replace(NODE, id=node_id)]
        row = node_rows(connection)[0]
    assert (row["status"], row["registered_ts"], row["last_seen_ts"], row["removed_ts"]) == ("unknown", TS, None, None)
    assert set(row) == set(nodes.columns.keys())


def test_nodes_come_by_name(engine: Engine) -> None:
    with engine.begin() as connection:
        for name in ("b", "c", "a"):
            store_node(connection, Node(name, f"host-{name}"), TS)
        assert [node.name for node in list_nodes(connection)] == ["a", "b", "c"]
        assert find_node(connection, "d") is None


def test_storing_again_updates(engine: Engine) -> None:
    with engine.begin() as connection:
        first = store_node(connection, NODE, TS)
        again = store_node(connection, replace(NODE, user="pi", groups=("pi",), labels={}), TS + 60)
        assert again == (first[0], False)
        row = node_rows(connection)[0]
    assert (row["user"], row["groups"], row["labels"], row["registered_ts"]) == ("pi", ["pi"], {}, TS)


def test_storing_again_without_a_key_keeps_the_pinned_one(engine: Engine) -> None:
    with engine.begin() as connection:
        store_node(connection, NODE, TS)
        store_node(connection, replace(NODE, host_key=None), TS)
        assert node_rows(connection)[0]["host_key"] == KEY
        store_node(connection, replace(NODE, host_key=OTHER_KEY), TS)
        assert node_rows(connection)[0]["host_key"] == OTHER_KEY


def test_a_place_stays_only_with_its_address(engine: Engine) -> None:
    with engine.begin() as connection:
        node_id, _ = store_node(connection, NODE, TS)
        set_location(connection, node_id, 37.2636, 127.0286, "nominatim")
        store_node(connection, replace(NODE, user="pi"), TS)
        row = node_rows(connection)[0]
        assert (row["latitude"], row["longitude"], row["location_source"]) == (37.2636, 127.0286, "nominatim")
        store_node(connection, replace(NODE, address="서울"), TS)
        row = node_rows(connection)[0]
        assert (row["latitude"], row["longitude"], row["location_source"]) == (None, None, None)


@pytest.mark.parametrize(
    ("other", "where", "said"),
    [
        ({"host": "10.0.0.2"}, "name", '"smartfarm-1" is registered at 10.0.0.1 port 2222'),
        ({"port": 22}, "name", '"smartfarm-1" is registered at 10.0.0.1 port 2222'),
        ({"jump_node": None}, "name", '"smartfarm-1" is registered at 10.0.0.1 port 2222'),
        ({"name": "other"}, "host", '10.0.0.1 port 2222 is registered as "smartfarm-1"'),
    ],
)
def test_what_is_taken_is_refused(engine: Engine, other: dict[str, str], where: str, said: str) -> None:
    with engine.begin() as connection:
        store_node(connection, NODE, TS)
        before = node_rows(connection)
        with pytest.raises(InputError) as caught:
            store_node(connection, replace(NODE, **other), TS)  # type: ignore[arg-type]
        assert (caught.value.where, caught.value.wrong) == (where, said)
        assert node_rows(connection) == before


def test_the_same_address_behind_another_jump_node_is_another(engine: Engine) -> None:
    with engine.begin() as connection:
        first, _ = store_node(connection, NODE, TS)
        second, created = store_node(connection, replace(NODE, name="smartfarm-2", jump_node="gateway-2"), TS)
        assert created
        assert second != first


def test_a_removed_node_leaves_its_name_and_address(engine: Engine) -> None:
    with engine.begin() as connection:
        first, _ = store_node(connection, NODE, TS)
        assert remove_node(connection, "smartfarm-1", TS + 10) == first
        assert list_nodes(connection) == []
        assert find_node(connection, "smartfarm-1") is None
        assert node_rows(connection) == []
        second, created = store_node(connection, NODE, TS + 20)
        assert created
        assert second > first
        rows = node_rows(connection, removed=True)
    assert [(row["id"], row["status"], row["removed_ts"]) for row in rows] == [
        (first, "removed", TS + 10),
        (second, "unknown", None),
    ]


def test_removing_forgets_the_last_reading(engine: Engine) -> None:
    ids = store_with_nodes(engine, 2)
    write(engine, sweep_batch(ids))
    with engine.begin() as connection:
        remove_node(connection, "n1", TS)
        assert set(readings(connection)) == {ids[1]}


def test_removing_an_unknown_node(engine: Engine) -> None:
    with engine.begin() as connection, pytest.raises(InputError, match='name: "ghost" is not registered; allowed: '):
        remove_node(connection, "ghost", TS)


def test_an_id_is_never_given_twice(engine: Engine) -> None:
    """Samples outlive their node, also where its row were lost."""
    with engine.begin() as connection:
        first, _ = store_node(connection, NODE, TS)
        connection.execute(nodes.delete())
        second, _ = store_node(connection, NODE, TS)
        assert second > first


def test_two_processes_register_the_same_node(engine: Engine, processes: Executor) -> None:
    url = engine.url.render_as_string(hide_password=False)
    done = [processes.submit(store_node_at, url, "same", "10.0.0.1", TS) for _ in range(3)]
    answers = [future.result() for future in done]
    assert sorted(created for _, created in answers) == [False, False, True]
    assert len({node_id for node_id, _ in answers}) == 1


def test_processes_register_many_nodes_at_once(engine: Engine, processes: Executor) -> None:
    url = engine.url.render_as_string(hide_password=False)
    done = [processes.submit(store_node_at, url, f"n{number}", f"10.0.0.{number}", TS) for number in range(30)]
    assert len({future.result() for future in done}) == 30


def test_where_a_node_is(engine: Engine) -> None:
    with engine.begin() as connection:
        node_id, _ = store_node(connection, NODE, TS)
        store_node(connection, Node("no-address", "10.0.0.9"), TS)
        assert nodes_to_locate(connection) == [replace(NODE, id=node_id)]
        set_location(connection, node_id, 37.26, 127.03, "gazetteer")
        assert [node.id for node in nodes_to_locate(connection)] == [node_id], "a coarse place can get better"
        set_location(connection, node_id, 37.2636, 127.0286, "nominatim")
        assert nodes_to_locate(connection) == []


def test_facts_of_a_node(engine: Engine) -> None:
    with engine.begin() as connection:
        node_id, _ = store_node(connection, NODE, TS)
        set_facts(connection, node_id, {"arch": "aarch64", "cpu_count": 4, "engine_version": "24.0.7"})
        set_facts(connection, node_id, {"engine_version": None})
        set_facts(connection, node_id, {})
        row = node_rows(connection)[0]
        assert (row["arch"], row["cpu_count"], row["engine_version"]) == ("aarch64", 4, None)
        with pytest.raises(ValueError, match="colour"):
            set_facts(connection, node_id, {"colour": "green"})


def test_a_host_key_is_pinned_once(engine: Engine) -> None:
    with engine.begin() as connection:
        node_id, _ = store_node(connection, replace(NODE, host_key=None), TS)
        pin_host_key(connection, node_id, KEY)
        pin_host_key(connection, node_id, KEY)
        with pytest.raises(InputError, match="another key pinned"):
            pin_host_key(connection, node_id, OTHER_KEY)
        assert connection.execute(select(nodes.c.host_key)).scalar() == KEY


def test_readings_are_of_nodes_that_exist(engine: Engine) -> None:
    with pytest.raises(IntegrityError), engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO node_readings (node_id, ts, missed_sweeps, counters, failing) VALUES (7, 1, 0, '{}', '{}')"
        )
    assert write(engine, Batch({"node_readings": [reading(7)]})) == 0
