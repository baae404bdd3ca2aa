from __future__ import annotations

from typing import Any

import pytest

from evc.store.arrays import BOOL, FLOAT8, INT2, INT4, INT8, TEXT, Kind, kind_of, pack, register
from evc.store.tables import node_samples, nodes, storage_samples
from tests.servers.postgres import PostgresServer

NAMES = {FLOAT8: "double precision", INT2: "smallint", INT4: "integer", INT8: "bigint", BOOL: "boolean"}


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (FLOAT8, [1.5, -0.1, 3, 1e308, 5e-324]),
        (FLOAT8, [1.5, None, 0.1]),
        (INT2, [-32768, 32767]),
        (INT4, [-(2**31), 2**31 - 1, 0]),
        (INT8, [-(2**63), 2**63 - 1, None]),
        (BOOL, [True, False, None]),
        (TEXT, ["", "a,b{}\"'\\", "NULL", None, "온도", "line\nbreak"]),
        (TEXT, [None]),
        (INT4, []),
    ],
)
def test_postgresql_reads_what_is_packed(postgres_server: PostgresServer, kind: Kind, values: list[Any]) -> None:
    with postgres_server.connect() as connection:
        register(connection)
        query = "SELECT v, pg_typeof(v)::text FROM unnest(%s) WITH ORDINALITY AS u(v, n) ORDER BY n"
        rows = connection.execute(query, [pack(kind, values)]).fetchall()
    assert [row[0] for row in rows] == values
    assert {row[1] for row in rows} <= {NAMES.get(kind, kind.name)}


def test_oids_are_the_servers(postgres_server: PostgresServer) -> None:
    with postgres_server.connect() as connection:
        for kind in (FLOAT8, INT2, INT4, INT8, BOOL, TEXT):
            query = "SELECT oid::int, typarray::int FROM pg_type WHERE typname = %s"
            assert connection.execute(query, [kind.name]).fetchone() == (kind.oid, kind.array_oid)


def test_kinds_of_columns() -> None:
    assert kind_of(node_samples.c.ts) is INT8
    assert kind_of(node_samples.c.node_id) is INT4
    assert kind_of(node_samples.c.up) is INT2
    assert kind_of(node_samples.c.load1) is FLOAT8
    assert kind_of(storage_samples.c.read_only) is BOOL
    assert kind_of(storage_samples.c.device) is TEXT
    assert kind_of(nodes.c.labels) is TEXT
