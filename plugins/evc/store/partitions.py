"""Partitions by time of the tables that grow by the minute: made ahead, dropped whole. PostgreSQL only.

Each is a week, which begins on a Thursday, 00:00 UTC, as 1970 did. ``<table>_rest`` takes what no other takes, so a row
is never refused: rows of weeks that nobody has made ahead, and times of a clock that was wrong. ``<table>_before`` is
what was there before there were partitions.

Making and dropping one needs the table for itself for an instant. Each waits for that two seconds at most, as all who
come after it wait too, and otherwise is done next time.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, Table, text

from evc.errors import DatabaseAway
from evc.store.tables import PARTITIONED, REST

WEEK_S = 7 * 86_400
AHEAD = 2
"""How many weeks are made ahead."""
_LOCK_TIMEOUT_S = 2
_BOUND = re.compile(r"FOR VALUES FROM \((?:MINVALUE|'(?P<begin>-?\d+)')\) TO \('(?P<end>-?\d+)'\)")


@dataclass(frozen=True, slots=True)
class Partition:
    """One that has bounds.

    :param begin_ts: None: from the first row on
    :param end_ts: the first second that is not in it
    """

    name: str
    begin_ts: int | None
    end_ts: int
    size_bytes: int


def are_in(engine: Engine) -> bool:
    """Return whether this database has partitions."""
    return engine.dialect.name == "postgresql"


def partitions(connection: Connection, table: Table) -> list[Partition]:
    """Return the partitions of ``table`` by time, without its rest."""
    query = text("""
        SELECT c.relname, pg_get_expr(c.relpartbound, c.oid), pg_total_relation_size(c.oid)
        FROM pg_inherits JOIN pg_class AS c ON c.oid = inhrelid WHERE inhparent = CAST(:name AS regclass)
    """)
    found = []
    for name, bound, size_bytes in connection.execute(query, {"name": table.name}):
        if match := _BOUND.fullmatch(bound):
            begin = match["begin"]
            found.append(Partition(name, None if begin is None else int(begin), int(match["end"]), size_bytes))
    return sorted(found, key=lambda partition: partition.end_ts)


def rest_of(table: Table) -> str:
    """Return the name of the partition that takes what no other takes."""
    return f"{table.name}{REST}"


def make_ahead(engine: Engine, now_ts: int) -> list[str]:
    """Make the partitions of this week and the next ones that are not there yet; returns their names.

    A week that the rest holds rows of stays with the rest.
    """
    made: list[str] = []
    for table in PARTITIONED:
        with engine.connect() as connection:
            there = partitions(connection, table)
        week = now_ts - now_ts % WEEK_S
        weeks = [ts for ts in range(week, week + (AHEAD + 1) * WEEK_S, WEEK_S) if not _is_covered(ts, there)]
        made += [_name(table, begin_ts) for begin_ts in weeks if _make(engine, table, begin_ts)]
    return made


def drop_before(engine: Engine, table: Table, ts: int) -> list[Partition]:
    """Drop the partitions of ``table`` that hold only rows from before ``ts``; returns those that were dropped."""
    with engine.connect() as connection:
        old = [each for each in partitions(connection, table) if each.end_ts <= ts]
    dropped = []
    for partition in old:
        with _at_once(engine) as connection:
            connection.execute(text(f"DROP TABLE IF EXISTS {partition.name}"))
            dropped.append(partition)
    return dropped


def _name(table: Table, begin_ts: int) -> str:
    return f"{table.name}_{time.strftime('%Y%m%d', time.gmtime(begin_ts))}"


def _is_covered(begin_ts: int, there: list[Partition]) -> bool:
    # not by the last one's end: a week before it may lack, after a lock or a clock that was ahead
    end_ts = begin_ts + WEEK_S
    return any((each.begin_ts is None or each.begin_ts < end_ts) and each.end_ts > begin_ts for each in there)


def _make(engine: Engine, table: Table, begin_ts: int) -> bool:
    end_ts = begin_ts + WEEK_S
    with engine.connect() as connection:
        is_taken = text(f"SELECT EXISTS (SELECT FROM {rest_of(table)} WHERE ts >= :begin AND ts < :end)")  # noqa: S608
        if connection.scalar(is_taken, {"begin": begin_ts, "end": end_ts}):
            return False
    with _at_once(engine) as connection:
        name, bounds = _name(table, begin_ts), f"FROM ({begin_ts}) TO ({end_ts})"
        connection.execute(text(f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF {table.name} FOR VALUES {bounds}"))
        return True
    return False  # somebody else is at work on the table


@contextmanager
def _at_once(engine: Engine) -> Iterator[Connection]:
    """A transaction that gives up where it would have to wait: nothing is done then."""
    try:
        with engine.begin() as connection:
            connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT_S}s'"))
            yield connection
    except DatabaseAway:
        pass
