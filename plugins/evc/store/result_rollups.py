"""Rollups of ``inference_results``: of a run its lines, frames and latencies over five minutes and over an hour,
of a kind of lines their values over an hour.

As with the rollups of samples, who adds or drops lines notes their hours in the same transaction, and a step makes one
hour anew from all its lines and deletes just the notes that it has read. Latencies are counted in classes of which each
reaches a quarter farther than the one before: from counts, unlike from percentiles, those of any choice of nodes and of
any longer time can be had, off by no more than a class reaches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Select,
    Table,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
)

from evc.fleet.results import ERROR, FRAME, MALFORMED
from evc.store.rollups import SETTLE_S, Rolled, Step, lock_mark, set_back
from evc.store.tables import (
    LATENCIES_MS,
    inference_results,
    inference_results_1h,
    inference_runs_1h,
    inference_runs_5m,
    latency_columns,
    rollup_notes,
)

HOUR_S = 3600
NAME = inference_results_1h.name
RESULTS = inference_results.name
"""Name of the mark that says what lines are kept from."""
_SUMMED_TO = 1e300
"""Values beyond are left out of sums: a few of them would be more than a number holds, which PostgreSQL refuses."""


def hour_of(ts: int) -> int:
    """Return the begin of the hour that ``ts`` is in."""
    return ts - ts % HOUR_S


def note_results(connection: Connection, times: Iterable[int]) -> None:
    """Note that lines of these ``ts`` were added, in the transaction that adds them."""
    rows = [{"rollup": NAME, "ts": hour} for hour in sorted({hour_of(ts) for ts in times})]
    if rows:
        connection.execute(insert(rollup_notes), rows)


def note_run(connection: Connection, run: int) -> None:
    """Note that the lines of a run are about to be dropped, in the transaction that drops them."""
    line = inference_results.c
    hour = line.ts - line.ts % HOUR_S
    hours = select(literal(NAME), hour).where(line.run_id == run).distinct()
    connection.execute(insert(rollup_notes).from_select(["rollup", "ts"], hours))


def roll_up_results(engine: Engine, now_ts: int, go_on: Callable[[], bool] = lambda: True) -> Rolled:
    """Make the hours that are over and have a note, the oldest first; returns what was done.

    :param go_on: asked before each step; what is left then is done next time
    """
    rolled = Rolled()
    while go_on() and (step := next_hour(engine, now_ts)) is not None:
        rolled.add(step)
    return rolled


def next_hour(engine: Engine, now_ts: int) -> Step | None:
    """Make an hour in one transaction; None where nothing is to do.

    :raises DatabaseError: nothing was changed
    """
    with engine.begin() as connection:
        kept_from_ts = lock_mark(connection, name=RESULTS)
        if kept_from_ts > now_ts:
            kept_from_ts = set_back(connection, inference_results, now_ts)
        hour = first_hour(connection, hour_of(now_ts - SETTLE_S))
        if hour is None:
            return None
        note = rollup_notes.c
        # those that come while the hour is made are left for the next step
        last = connection.scalar(select(func.max(note.id)).where(note.rollup == NAME, note.ts == hour))
        is_kept = hour >= kept_from_ts  # else its other lines are gone: from the late ones alone it would be worse
        rows = _make(connection, hour) if is_kept else 0
        connection.execute(delete(rollup_notes).where(note.rollup == NAME, note.ts == hour, note.id <= last))
        return Step(hour, hour + HOUR_S, rows, 0 if is_kept else 1)


def first_hour(connection: Connection, before_ts: int | None = None) -> int | None:
    """Return the oldest hour that is not made yet; None where all are.

    :param before_ts: only of those before
    """
    note = rollup_notes.c
    query = select(func.min(note.ts)).where(note.rollup == NAME)
    found: int | None = connection.scalar(query if before_ts is None else query.where(note.ts < before_ts))
    return found


def _make(connection: Connection, hour: int) -> int:
    """Make an hour anew; returns how many rows it has."""
    return sum(_replace(connection, table, rows, hour) for table, rows in _ROWS.items())


def _replace(connection: Connection, table: Table, rows: Callable[[], Select[Any]], hour: int) -> int:
    connection.execute(delete(table).where(table.c.ts >= hour, table.c.ts < hour + HOUR_S))
    made = insert(table).from_select(table.columns.keys(), rows())
    given = {"begin_ts": hour, "end_ts": hour + HOUR_S}
    return connection.execute(made, given, execution_options={"preserve_rowcount": True}).rowcount


def _lines_of_hour() -> ColumnElement[bool]:
    line = inference_results.c
    return and_(line.ts >= bindparam("begin_ts"), line.ts < bindparam("end_ts"))


def _by_kind() -> Select[Any]:
    line = inference_results.c
    has_value = and_(line.value >= -_SUMMED_TO, line.value <= _SUMMED_TO)
    of_run = {name: line[name] for name in ("run_id", "kind", "node_id", "model")}
    values: dict[str, Any] = {
        "ts": bindparam("begin_ts"),
        **of_run,
        "lines": func.count(),
        "last_seq": func.max(line.seq),
        "value_count": func.count().filter(has_value),
        "value_sum": func.sum(line.value).filter(has_value),
        "value_min": func.min(line.value),
        "value_max": func.max(line.value),
    }
    columns = [values[column.name].label(column.name) for column in inference_results_1h.columns]
    return select(*columns).where(_lines_of_hour()).group_by(*of_run.values())


def _by_run(bucket_s: int) -> Select[Any]:
    line = _with_frames().subquery().c
    # a constant in the text: as a parameter it would be another one in GROUP BY than in SELECT
    ts = line.ts - line.ts % literal_column(str(bucket_s))
    of_run = {"ts": ts, **{name: line[name] for name in ("run_id", "node_id", "model", "digest")}}
    classes = zip(latency_columns(), _classes(line.frame_ms), strict=True)
    values: dict[str, Any] = {
        **of_run,
        "lines": func.count(),
        "errors": func.count().filter(line.kind.in_((ERROR, MALFORMED))),
        "frames": func.count(line.frame),
        **{name: func.nullif(func.count().filter(within), 0) for name, within in classes},
    }
    columns = [values[column.name].label(column.name) for column in inference_runs_1h.columns]
    return select(*columns).group_by(*of_run.values())


def _with_frames() -> Select[Any]:
    """Return the lines of the hour; ``frame`` is 1 and ``frame_ms`` its latency where a line stands for a frame."""
    line = inference_results.c
    telling = select(line.run_id).where(_lines_of_hour(), line.kind == FRAME).distinct().subquery()
    is_frame = or_(line.kind == FRAME, and_(line.latency_ms.is_not(None), telling.c.run_id.is_(None)))
    frame, frame_ms = case((is_frame, 1)).label("frame"), case((is_frame, line.latency_ms)).label("frame_ms")
    columns = (line.ts, line.run_id, line.node_id, line.model, line.digest, line.kind)
    # joined: PostgreSQL would ask a subquery anew for each class
    both = inference_results.outerjoin(telling, telling.c.run_id == line.run_id)
    return select(*columns, frame, frame_ms).select_from(both).where(_lines_of_hour())


def _classes(latency_ms: ColumnElement[float]) -> list[ColumnElement[bool]]:
    """Return by class of latencies the condition that a line is in it."""
    between = (and_(latency_ms > low, latency_ms <= high) for low, high in pairwise(LATENCIES_MS))
    return [latency_ms <= LATENCIES_MS[0], *between, latency_ms > LATENCIES_MS[-1]]


_ROWS: dict[Table, Callable[[], Select[Any]]] = {
    inference_runs_5m: partial(_by_run, 300),
    inference_runs_1h: partial(_by_run, HOUR_S),
    inference_results_1h: _by_kind,
}
