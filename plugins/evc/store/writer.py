"""Writes what sweeps have found: many rows of many nodes in one transaction, the same on SQLite and PostgreSQL.

Writing a batch once more changes nothing, so whoever does not know whether a batch arrived writes it again. Rows are
written in the order of their keys, tables in one order: two writers of the same rows wait for each other, they never
deadlock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, select

from evc.store.cells import cleaner
from evc.store.nodes import FACTS
from evc.store.repeats import by_second, without_repeats
from evc.store.rollups import note_samples
from evc.store.rows import Rows
from evc.store.speech import Change, speech_for
from evc.store.tables import node_readings, node_samples, nodes

TABLES = (
    "node_samples",
    "temperature_samples",
    "storage_samples",
    "network_samples",
    "probe_runs",
    "node_events",
    "sweeps",
    "node_readings",
)
NODE_COLUMNS = ("status", "last_seen_ts", "host_key", *FACTS)

_BY_ITSELF = ("last_seen_ts", "host_key")  # each has a rule of its own


@dataclass(slots=True)
class Batch:
    """What one or more sweeps found; JSON-able.

    :param tables: rows by table, one of :data:`TABLES`; a column that a row does not have is NULL
    :param nodes: ``id`` and what to set: some of :data:`NODE_COLUMNS`, the facts also as a mapping ``facts``
    """

    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    nodes: list[dict[str, Any]] = field(default_factory=list)


def write(engine: Engine, batch: Batch) -> int:
    """Write ``batch`` in one transaction; returns the number of rows that were added or changed.

    - A sample, detail, event or sweep that is there already stays as it is; of readings the newest wins. An event that
      another run has told of, some seconds before or after, is left out.
    - Values that are not finite or do not fit their column become NULL; texts are cut to their column's length.
    - Rows of a node that is not in the database, and rows without a value that must be there, are left out and logged:
      the others are not lost for them.
    - ``nodes``: one that was removed is not touched; ``last_seen_ts`` never goes back; a host key is only pinned where
      none is; anything else stays where a newer reading of that node is stored already.

    :raises DatabaseError: nothing of the batch was written
    :raises ValueError: a table or column that does not exist
    """
    unknown = set(batch.tables) - set(TABLES)
    if unknown:
        raise ValueError(f"a batch has no tables {sorted(unknown)}")
    prepared = {name: Rows.of(name, batch.tables[name]) for name in TABLES if batch.tables.get(name)}
    changes = _changes(batch)
    with engine.begin() as connection:
        speech = speech_for(connection)
        known = _known(connection, set().union(*(rows.node_ids for rows in prepared.values())))
        events = prepared.pop("node_events", None)
        written = sum(_insert(connection, rows, known) for rows in prepared.values())
        written += sum(speech.change(connection, change) for change in changes)
        return written + (_insert_events(connection, events, known) if events else 0)


def _insert_events(connection: Connection, rows: Rows, known: set[int]) -> int:
    """Insert the events that nobody else has told."""
    seconds = by_second(rows.complete(known))
    new = ((rows.shape, without_repeats(connection, events)) for events in seconds)
    return sum(speech_for(connection).insert(connection, shape, list(events)) for shape, events in new if events)


def _insert(connection: Connection, rows: Rows, known: set[int]) -> int:
    added = speech_for(connection).insert(connection, rows.shape, rows.complete(known))
    if added and rows.shape.table is node_samples:
        note_samples(connection, set(rows.columns[rows.shape.names.index("ts")]) - {None})
    return added


def readings(connection: Connection) -> dict[int, dict[str, Any]]:
    """Return the rows of ``node_readings`` by node id."""
    return {row["node_id"]: dict(row) for row in connection.execute(select(node_readings)).mappings()}


def _known(connection: Connection, ids: set[int]) -> set[int]:
    """Return those of ``ids`` that are in the database, and perhaps others: no row of ``nodes`` is ever deleted."""
    if not ids:
        return set()
    query = select(nodes.c.id).where(nodes.c.id.between(min(ids), max(ids)))
    return set(connection.execute(query).scalars())


def _changes(batch: Batch) -> list[Change]:
    """Return what to set, the same columns together, by node id."""
    sampled = batch.tables.get("node_samples", []) + batch.tables.get("node_readings", [])
    when = {row["node_id"]: row["ts"] for row in sorted(sampled, key=lambda row: int(row["ts"]))}
    together: dict[tuple[str, ...], dict[int, dict[str, Any]]] = {}
    for row in batch.nodes:
        given = {**row, **row.get("facts", {})}
        given.pop("facts", None)
        node_id = given.pop("id")
        if given.get("status", "") is None:
            del given["status"]  # unknown means unchanged
        for columns in _apart(given):
            together.setdefault(columns, {})[node_id] = given
    return [_change(columns, by_id, when) for columns, by_id in sorted(together.items())]


def _apart(given: dict[str, Any]) -> Iterable[tuple[str, ...]]:
    unknown = set(given) - set(NODE_COLUMNS)
    if unknown:
        raise ValueError(f"a sweep sets no columns {sorted(unknown)} of nodes")
    yield from ((name,) for name in _BY_ITSELF if given.get(name) is not None)
    others = tuple(name for name in NODE_COLUMNS if name in given and name not in _BY_ITSELF)
    if others:
        yield others


def _change(columns: tuple[str, ...], by_id: dict[int, dict[str, Any]], when: dict[int, int]) -> Change:
    ids = sorted(by_id)
    values = [cleaner(nodes.c[name])([by_id[node_id][name] for node_id in ids]) for name in columns]
    return Change(columns, list(zip(ids, [when.get(node_id) for node_id in ids], *values, strict=True)))
