"""What is too old goes: partitions whole, other rows in batches of short transactions, so that nobody waits for long.

Samples and result lines go when they are rolled up, not before. In an SQLite file the pages of deleted rows are used
for new ones, so it stays as large as it was at its fullest; one that EVC made gives pages back when more than a quarter
of it is empty.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Table, delete, func, select, table, text
from sqlalchemy.sql import column

from evc.store.identities import forget_before
from evc.store.partitions import are_in, drop_before, rest_of
from evc.store.result_rollups import RESULTS, first_hour
from evc.store.rollups import COARSE, SAMPLES, first_note, lock_mark
from evc.store.tables import (
    PARTITIONED,
    event_notices,
    identity_galleries,
    inference_results,
    inference_results_1h,
    inference_runs_1h,
    inference_runs_5m,
    metadata,
    network_samples,
    node_anomalies,
    node_events,
    node_samples,
    node_samples_1d,
    node_samples_1h,
    node_samples_5m,
    node_samples_6h,
    node_samples_7d,
    probe_runs,
    storage_samples,
    sweeps,
    temperature_samples,
)

KINDS: dict[str, tuple[Table, ...]] = {
    "samples": (node_samples,),
    "details": (temperature_samples, storage_samples, network_samples),
    "rollup_5m": (node_samples_5m, inference_runs_5m),
    "rollup_1h": (
        node_samples_1h,
        node_samples_6h,
        node_samples_1d,
        node_samples_7d,
        inference_runs_1h,
        inference_results_1h,
    ),
    "events": (node_events, event_notices, node_anomalies, probe_runs),
    "results": (inference_results,),
    "sweeps": (sweeps,),
}
"""Tables by the kind that ``[evc] retention_<kind>_days`` is about."""
ROWS_AT_ONCE = 5_000
PAUSE_S = 0.02
"""Between two batches, so that who waits for SQLite's lock gets it."""
_PAGES_AT_ONCE = 2_000
_EMPTY_AT_MOST = 0.25
_EMPTY_AFTERWARDS = 0.1
_KEPT_BY = {node_anomalies.name: "end_ts"}
"""What makes a row old, where that is not ``ts``: an anomaly that goes on stays, having no end."""
Ask = Callable[[], bool]


@dataclass(slots=True)
class Removed:
    """What went of one table.

    :param before_ts: rows from before it are too old
    :param partitions: names of those that were dropped
    :param freed_bytes: of the partitions; the pages of deleted rows are used for new ones
    """

    before_ts: int
    rows: int = 0
    partitions: tuple[str, ...] = ()
    freed_bytes: int = 0


def remove_old(engine: Engine, kind: str, before_ts: int, go_on: Ask = lambda: True) -> dict[str, Removed]:
    """Remove the rows of one of :data:`KINDS` from before ``before_ts``; returns what went, by table.

    :param go_on: asked before each batch; what is left then goes next time
    """
    if kind == "samples":
        before_ts = _until_rolled_up(engine, before_ts, SAMPLES, first_note)
    elif kind == "results":
        before_ts = _until_rolled_up(engine, before_ts, RESULTS, first_hour)
    return {each.name: _remove(engine, each, before_ts, go_on) for each in KINDS[kind]}


def forget_identities(engine: Engine, before_ts: int) -> int:
    """Drop the identities of every gallery that were not seen since ``before_ts``; returns how many."""
    with engine.connect() as connection:
        names = list(connection.execute(select(identity_galleries.c.name)).scalars())
    forgotten = 0
    for name in names:
        with engine.begin() as connection:
            forgotten += forget_before(connection, name, before_ts)
    return forgotten


def _until_rolled_up(engine: Engine, before_ts: int, name: str, first_of: Callable[[Connection], int | None]) -> int:
    """Return until when rows may go, and let nobody roll up what is before it from what is left.

    :param name: of the mark
    :param first_of: returns the first bucket that is not made yet
    """
    with engine.begin() as connection:
        lock_mark(connection, name=name)
        first = first_of(connection)
        before_ts = COARSE.bucket(before_ts if first is None else min(before_ts, first))
        lock_mark(connection, before_ts, name)
    return before_ts


def _remove(engine: Engine, of: Table, before_ts: int, go_on: Ask) -> Removed:
    removed = Removed(before_ts)
    name = of.name
    if are_in(engine) and of in PARTITIONED:
        dropped = drop_before(engine, of, before_ts)
        removed.partitions = tuple(each.name for each in dropped)
        removed.freed_bytes = sum(each.size_bytes for each in dropped)
        name = rest_of(of)
    for rows in _batches(engine, name, before_ts, go_on):
        removed.rows += rows
    return removed


def _batches(engine: Engine, name: str, before_ts: int, go_on: Ask) -> Iterator[int]:
    """Delete the rows from before ``before_ts``, the oldest first; yields how many each transaction took."""
    rows = table(name, column(_KEPT_BY.get(name, "ts")))
    (ts,) = rows.c
    old = ts < before_ts
    # all rows of a second go together: those of a sweep are one
    last = select(ts).where(old).order_by(ts).offset(ROWS_AT_ONCE - 1).limit(1)
    while go_on():
        with engine.connect() as connection:
            through_ts = connection.scalar(last)
        chosen = old if through_ts is None else ts <= through_ts
        with engine.begin() as connection:
            deleted = connection.execute(delete(rows).where(chosen)).rowcount
        if deleted:
            yield deleted
        if through_ts is None:
            return
        time.sleep(PAUSE_S)


# -- size --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Size:
    """How large the database is.

    :param empty_bytes: of ``bytes``, those of pages without a row; None where the database does not tell
    :param tables: bytes by table, indexes and partitions included; only where the database tells
    """

    bytes: int
    empty_bytes: int | None
    tables: dict[str, int]


def size(engine: Engine) -> Size:
    """Return how large the database is on disk, without its log."""
    with engine.connect() as connection:
        return _sqlite_size(connection) if engine.dialect.name == "sqlite" else _postgres_size(connection)


def _pragma(connection: Connection, name: str) -> int:
    return int(connection.execute(text(f"PRAGMA {name}")).scalar() or 0)


def _sqlite_size(connection: Connection) -> Size:
    page_bytes = _pragma(connection, "page_size")
    pages, empty = _pragma(connection, "page_count"), _pragma(connection, "freelist_count")
    return Size(pages * page_bytes, empty * page_bytes, {})


def _postgres_size(connection: Connection) -> Size:
    query = text("""
        SELECT coalesce(parent.relname, c.relname), sum(pg_total_relation_size(c.oid))
        FROM pg_class AS c
        LEFT JOIN pg_inherits ON inhrelid = c.oid LEFT JOIN pg_class AS parent ON parent.oid = inhparent
        WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace GROUP BY 1
    """)
    found = {name: int(bytes_) for name, bytes_ in connection.execute(query)}
    of_evc = {name: found[name] for name in metadata.tables if name in found}
    total = connection.scalar(select(func.pg_database_size(func.current_database())))
    return Size(int(total or 0), None, of_evc)


def give_back(engine: Engine, go_on: Ask = lambda: True) -> int:
    """Make an SQLite file smaller where more than a quarter of it is empty; returns by how many bytes.

    A tenth stays empty for the rows to come. Does nothing to a file that was made by an older EVC: its empty pages are
    only used again, see docs/operations.md.
    """
    if engine.dialect.name != "sqlite":
        return 0
    with engine.connect() as connection:
        can = _pragma(connection, "auto_vacuum") == 2  # incremental
        page_bytes, pages = _pragma(connection, "page_size"), _pragma(connection, "page_count")
        empty = _pragma(connection, "freelist_count")
    if not can or empty <= pages * _EMPTY_AT_MOST:
        return 0
    last = pages - int(empty - pages * _EMPTY_AFTERWARDS)
    left = pages
    while left > last and go_on():
        with engine.begin() as connection:
            _vacuum(connection, min(_PAGES_AT_ONCE, left - last))
            now = _pragma(connection, "page_count")
        if now == left:
            break
        left = now
        time.sleep(PAUSE_S)
    return (pages - left) * page_bytes


def _vacuum(connection: Connection, pages: int) -> None:
    """Cut ``pages`` off the file's end, after moving what is in them to empty ones."""
    connection.execute(text("BEGIN IMMEDIATE"))
    driver: Any = connection.connection.driver_connection
    # a page a step: to fetch rows, of which there are none, is what makes the driver go on
    driver.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()
