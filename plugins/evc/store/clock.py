"""From when on days are counted back, where a clock may be wrong: what was deleted too early does not come back.

A clock that is ahead for an hour would make everything too old. So the days on which rounds are done are kept, and time
goes on by no more than a day after the last one before today's. A machine that was switched off for months looks the
same at first, and a day later no more: then today is the last one before.
"""

from __future__ import annotations

from sqlalchemy import Connection, Engine, select

from evc.store.dialects import insert_into
from evc.store.tables import history_marks

DAY_S = 86_400
LATEST, BEFORE = "clock", "clock_before"
"""Marks: the begin of the last day on which a round was done, and of the last one before that."""


def believed_now(engine: Engine, now_ts: int) -> int:
    """Remember that a round is done now; returns ``now_ts``, or less where the clock may be ahead."""
    day = now_ts - now_ts % DAY_S
    with engine.begin() as connection:
        latest = _read(connection, LATEST, day)
        before = _read(connection, BEFORE, day)
        if day > latest:
            before = latest
        before = min(before, day)  # the clock was set back: a day to come was none
        _store(connection, LATEST, day)
        _store(connection, BEFORE, before)
    return min(now_ts, before + 2 * DAY_S)


def _read(connection: Connection, name: str, unknown: int) -> int:
    ts: int | None = connection.scalar(select(history_marks.c.ts).where(history_marks.c.name == name))
    return unknown if ts is None else ts


def _store(connection: Connection, name: str, ts: int) -> None:
    mark = insert_into(connection, history_marks).values(name=name, ts=ts)
    connection.execute(mark.on_conflict_do_update(index_elements=["name"], set_={"ts": ts}))
