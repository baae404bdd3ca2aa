"""Events that somebody else has recorded: a run that was triggered sweeps the same nodes beside the scheduled one.

Each run judges by its own memory, so both see a node fall silent, within seconds of each other. What they see is one
event. ``up`` and ``down`` of a node alternate: one that has the same before it, or after it, is a repeat. What has no
opposite is one where the same comes within a minute.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import Connection, false, select, update

from evc.store.tables import node_events, nodes

WITHIN_S = 60
_STATES = ("up", "down")
_ANY_MESSAGE = ("reboot",)
"""Kinds whose message says how long ago it was."""


class Event(NamedTuple):
    """A row of ``node_events``."""

    ts: int
    node_id: int
    kind: str
    severity: str
    message: str


def by_second(rows: Iterable[tuple[Any, ...]]) -> Iterator[list[Event]]:
    """Return events that are ordered by time, those of a second together: each may make the next ones repeats."""
    for _, those in groupby((Event(*row) for row in rows), key=lambda event: event.ts):
        yield list(those)


def without_repeats(connection: Connection, events: Sequence[Event]) -> list[Event]:
    """Return those of the events of one second that nobody has recorded, and keep others from recording them.

    Locks the rows of their nodes until the transaction ends: to be called after all else that locks rows.
    """
    ids = sorted({event.node_id for event in events})
    _lock(connection, ids)
    states, near = _states_around(connection, events[0].ts, ids), _near(connection, events[0].ts, ids)
    return [event for event in events if not _is_repeat(event, states, near)]


def _lock(connection: Connection, ids: Sequence[int]) -> None:
    connection.execute(select(nodes.c.id).where(nodes.c.id.in_(ids)).order_by(nodes.c.id).with_for_update()).all()
    if connection.dialect.name == "sqlite":
        # it locks no row, and all of the file with the first statement that may write: this one, which changes nothing
        connection.execute(update(nodes).where(false()).values(status=nodes.c.status))


def _is_repeat(event: Event, states: set[tuple[int, str]], near: Sequence[Event]) -> bool:
    if event.kind in _STATES:
        return (event.node_id, event.kind) in states
    return any(
        (event.node_id, event.kind) == (it.node_id, it.kind)
        and (it.kind in _ANY_MESSAGE or it.message == event.message)
        for it in near
    )


def _states_around(connection: Connection, ts: int, ids: Sequence[int]) -> set[tuple[int, str]]:
    """Return of each node the last state before ``ts`` and the first after it."""
    event = node_events.c
    state = select(event.kind).where(event.node_id == nodes.c.id, event.kind.in_(_STATES)).limit(1)
    before = state.where(event.ts < ts).order_by(event.ts.desc()).scalar_subquery()
    after = state.where(event.ts > ts).order_by(event.ts).scalar_subquery()
    query = select(nodes.c.id, before, after).where(nodes.c.id.in_(ids))
    return {(node_id, kind) for node_id, *kinds in connection.execute(query) for kind in kinds}


def _near(connection: Connection, ts: int, ids: Sequence[int]) -> list[Event]:
    event = node_events.c
    near = event.ts.between(ts - WITHIN_S, ts + WITHIN_S)
    return [Event(*row) for row in connection.execute(select(node_events).where(event.node_id.in_(ids), near))]
