"""Rollups of ``node_samples`` from five minutes to a week: least, mean, greatest, how much a node was up.

Whoever adds samples leaves a note of their bucket in the same transaction, however old they are: the spool's come late.
A step takes the notes of a few buckets that are over, makes those buckets anew from all their samples and deletes just
the notes that it has read, in one transaction. So a note is there until its samples are counted, a step that was killed
has done nothing, and one that is done twice changes nothing. Writers wait for nothing here.

Five minutes and hours come from the samples themselves: means of means would be wrong where values are missing. What is
longer comes from the rollup below it, for a day of samples of a large fleet is too much for one transaction: a mean is
that of the shorter buckets' means, each as heavy as the sweeps that were answered in it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Float, Select, Table, bindparam, case, cast, delete, func, insert, select

from evc.store.dialects import insert_into
from evc.store.tables import (
    ROLLED_UP,
    ROLLED_UP_TOTALS,
    history_marks,
    node_samples,
    node_samples_1d,
    node_samples_1h,
    node_samples_5m,
    node_samples_6h,
    node_samples_7d,
    rollup_notes,
)

SETTLE_S = 60
"""How long after its end a bucket waits for its last samples. A later one is counted too, by a step more."""
SAMPLES = "node_samples"
log = logging.getLogger(__name__)
_IDS_AT_ONCE = 500  # SQLite takes a thousand parameters at least


@dataclass(frozen=True, slots=True)
class Rollup:
    """A table of buckets.

    :param source: what they are made of
    :param bucket_s: what a row stands for; each ``ts`` is a multiple of it
    :param window_s: how much one transaction makes; a multiple of it
    :param above: whose bucket is to be made anew after one of these
    """

    table: Table
    source: Table
    bucket_s: int
    window_s: int
    above: Rollup | None = None

    def bucket(self, ts: int) -> int:
        """Return the begin of the bucket that ``ts`` is in."""
        return ts - ts % self.bucket_s


WEEK = Rollup(node_samples_7d, node_samples_1d, 604_800, 604_800)
DAY = Rollup(node_samples_1d, node_samples_6h, 86_400, 86_400, above=WEEK)
QUARTER = Rollup(node_samples_6h, node_samples_1h, 21_600, 21_600, above=DAY)
COARSE = Rollup(node_samples_1h, node_samples, 3600, 3600, above=QUARTER)
FINE = Rollup(node_samples_5m, node_samples, 300, 900, above=COARSE)
ROLLUPS = (FINE, COARSE, QUARTER, DAY, WEEK)
"""In the order in which they are made."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one transaction did.

    :param begin_ts: of its first bucket
    :param end_ts: of its last bucket
    :param rows: that were made or made anew
    :param too_late: notes of buckets whose samples are gone, which stay as they are
    """

    begin_ts: int
    end_ts: int
    rows: int
    too_late: int


@dataclass(slots=True)
class Rolled:
    """What several steps did.

    :param through_ts: end of the last bucket that was made; None where none was
    """

    rows: int = 0
    too_late: int = 0
    through_ts: int | None = None

    def add(self, step: Step) -> None:
        """Count one step more."""
        self.rows += step.rows
        self.too_late += step.too_late
        if step.rows:
            self.through_ts = max(self.through_ts or 0, step.end_ts)


def note_samples(connection: Connection, times: Iterable[int]) -> None:
    """Note that samples of these ``ts`` were added, in the transaction that adds them."""
    _note(connection, FINE, {FINE.bucket(ts) for ts in times})


def _note(connection: Connection, rollup: Rollup, buckets: Iterable[int]) -> None:
    rows = [{"rollup": rollup.table.name, "ts": ts} for ts in sorted(buckets)]
    if rows:
        connection.execute(insert(rollup_notes), rows)


def roll_up(engine: Engine, now_ts: int, go_on: Callable[[], bool] = lambda: True) -> dict[str, Rolled]:
    """Make the buckets that are over and have a note, the oldest first; returns what was done by table.

    :param go_on: asked before each step; what is left then is done next time
    """
    done: dict[str, Rolled] = {}
    for rollup in ROLLUPS:
        rolled = done[rollup.table.name] = Rolled()
        while go_on() and (step := next_step(engine, rollup, now_ts)) is not None:
            rolled.add(step)
    return done


def next_step(engine: Engine, rollup: Rollup, now_ts: int) -> Step | None:
    """Make a few buckets in one transaction; None where nothing is to do.

    :raises DatabaseError: nothing was changed
    """
    with engine.begin() as connection:
        kept_from_ts = lock_mark(connection)
        if kept_from_ts > now_ts:
            kept_from_ts = set_back(connection, node_samples, now_ts)
        begin_ts = _first_note(connection, rollup, now_ts)
        if begin_ts is None:
            return None
        window_end_ts = begin_ts - begin_ts % rollup.window_s + rollup.window_s
        notes = _read_notes(connection, rollup, begin_ts, min(window_end_ts, _over(rollup, now_ts)))
        # their other samples are gone: made from the late ones alone they would be worse than they are
        alive = sorted({ts for ts in notes.values() if rollup.source is not node_samples or ts >= kept_from_ts})
        rows = _make(connection, rollup, alive)
        if rollup.above:
            _note(connection, rollup.above, {rollup.above.bucket(ts) for ts in alive})
        _delete_notes(connection, sorted(notes))
        end_ts = max(notes.values()) + rollup.bucket_s
        return Step(begin_ts, end_ts, rows, len(set(notes.values()) - set(alive)))


def first_note(connection: Connection) -> int | None:
    """Return the begin of the oldest bucket that is still to be made of samples; None where there is none."""
    names = [rollup.table.name for rollup in ROLLUPS if rollup.source is node_samples]
    query = select(func.min(rollup_notes.c.ts)).where(rollup_notes.c.rollup.in_(names))
    found: int | None = connection.scalar(query)
    return found


def lock_mark(connection: Connection, ts: int = 0, name: str = SAMPLES) -> int:
    """Let nobody else roll up or drop rows of a table before this transaction ends; returns what they are kept from.

    :param ts: rows before it are about to be dropped
    :param name: of the table
    """
    marks = insert_into(connection, history_marks).values(name=name, ts=ts)
    greatest = func.max if connection.dialect.name == "sqlite" else func.greatest
    later = greatest(history_marks.c.ts, marks.excluded.ts)
    connection.execute(marks.on_conflict_do_update(index_elements=["name"], set_={"ts": later}))
    return int(connection.execute(select(history_marks.c.ts).where(history_marks.c.name == name)).scalar_one())


# -- notes -------------------------------------------------------------------------------------------------------------


def _over(rollup: Rollup, now_ts: int) -> int:
    """Return the end of the last bucket that is over."""
    return rollup.bucket(now_ts - SETTLE_S)


def _first_note(connection: Connection, rollup: Rollup, now_ts: int) -> int | None:
    note = rollup_notes.c
    over = (note.rollup == rollup.table.name, note.ts < _over(rollup, now_ts))
    found: int | None = connection.scalar(select(func.min(note.ts)).where(*over))
    return found


def _read_notes(connection: Connection, rollup: Rollup, begin_ts: int, end_ts: int) -> dict[int, int]:
    """Return ``ts`` by id of the notes from ``begin_ts`` to before ``end_ts``."""
    note = rollup_notes.c
    query = select(note.id, note.ts).where(note.rollup == rollup.table.name, note.ts >= begin_ts, note.ts < end_ts)
    return {row.id: row.ts for row in connection.execute(query)}


def _delete_notes(connection: Connection, ids: list[int]) -> None:
    for begin in range(0, len(ids), _IDS_AT_ONCE):
        connection.execute(delete(rollup_notes).where(rollup_notes.c.id.in_(ids[begin : begin + _IDS_AT_ONCE])))


def set_back(connection: Connection, table: Table, now_ts: int) -> int:
    """Correct a mark that is later than now, as a clock that was ahead leaves it; returns what rows are kept from.

    Until then no row would be rolled up, and retention would delete each unseen.
    """
    oldest = connection.scalar(select(func.min(table.c.ts)))
    ts = COARSE.bucket(now_ts if oldest is None else min(now_ts, oldest))
    log.warning("a clock was ahead: %s are rolled up from %d on again", table.name, ts)
    connection.execute(history_marks.update().where(history_marks.c.name == table.name).values(ts=ts))
    return ts


# -- buckets -----------------------------------------------------------------------------------------------------------


def _make(connection: Connection, rollup: Rollup, buckets: list[int]) -> int:
    """Make the buckets from the first to the last anew; returns how many rows that are."""
    if not buckets:
        return 0
    bounds = {"begin_ts": buckets[0], "end_ts": buckets[-1] + rollup.bucket_s}
    made = insert_into(connection, rollup.table).from_select(rollup.table.columns.keys(), _buckets(rollup))
    values = {column.name: made.excluded[column.name] for column in rollup.table.columns if not column.primary_key}
    made = made.on_conflict_do_update(index_elements=["ts", "node_id"], set_=values)
    return connection.execute(made, bounds, execution_options={"preserve_rowcount": True}).rowcount


def _buckets(rollup: Rollup) -> Select[Any]:
    source = rollup.source.c
    begin = source.ts - source.ts % rollup.bucket_s
    values = _of_samples() if rollup.source is node_samples else _of_rollup(rollup.source)
    values |= {"ts": begin, "node_id": source.node_id}
    wanted = source.ts >= bindparam("begin_ts"), source.ts < bindparam("end_ts")
    columns = [values[column.name].label(column.name) for column in rollup.table.columns]
    return select(*columns).where(*wanted).group_by(begin, source.node_id)


def _of_samples() -> dict[str, Any]:
    sample = node_samples.c
    values: dict[str, Any] = {
        "samples": func.count(),
        "up_ratio": func.avg(cast(sample.up, Float)),
        **{column: func.max(sample[column]) for column in ROLLED_UP_TOTALS},
        "uptime_s_min": func.min(sample.uptime_s),
        "throttled_ratio": func.avg(cast(sample.throttled, Float)),
    }
    for column in ROLLED_UP:
        values |= {f"{column}_min": func.min(sample[column]), f"{column}_max": func.max(sample[column])}
        # a sum of bytes needs no exact arithmetic, which takes PostgreSQL ten times as long
        values[f"{column}_avg"] = func.avg(cast(sample[column], Float))
    return values


def _of_rollup(table: Table) -> dict[str, Any]:
    bucket = table.c
    answered = bucket.samples * bucket.up_ratio
    values: dict[str, Any] = {
        "samples": func.sum(bucket.samples),
        "up_ratio": func.sum(answered) / func.sum(bucket.samples),
        **{column: func.max(bucket[column]) for column in ROLLED_UP_TOTALS},
        "uptime_s_min": func.min(bucket.uptime_s_min),
        "throttled_ratio": _weighted(bucket.throttled_ratio, answered),
    }
    for column in ROLLED_UP:
        values |= {f"{column}_{what}": at(bucket[f"{column}_{what}"]) for what, at in _EXTREMES.items()}
        # how long a node takes is known of one that does not answer, too
        weight = cast(bucket.samples, Float) if column == "sweep_duration_s" else answered
        values[f"{column}_avg"] = _weighted(bucket[f"{column}_avg"], weight)
    return values


_EXTREMES: dict[str, Any] = {"min": func.min, "max": func.max}


def _weighted(value: Any, weight: Any) -> Any:
    """Return the mean of a column; buckets that lack it do not count."""
    return func.sum(value * weight) / func.nullif(func.sum(case((value.is_not(None), weight))), 0)
