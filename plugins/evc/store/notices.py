"""Which events people were told of. An event is claimed before it is sent: two tasks never send the same one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, Connection, Select, and_, case, delete, exists, func, select, update

from evc.anomalies.windows import BUCKET_S
from evc.fleet.notices import Event
from evc.store.dialects import insert_into
from evc.store.events import ANOMALY, SEVERITIES
from evc.store.nodes import PENDING_CLEANUP, REMOVED
from evc.store.tables import event_notices, node_anomalies, node_events, nodes

_Events = Select[int, int, str, str, str, str]

AT_ONCE = 5_000
ENDS = {"up": ("down",), REMOVED: (PENDING_CLEANUP, "cleanup_failed")}
"""Kinds that end what others began. Whoever was told that it began is told of its end, whatever its severity."""


def claim(connection: Connection, severity: str, since_ts: int, now_ts: int) -> list[Event]:
    """Take the events that nobody was told of yet; they are this caller's from the end of the transaction on.

    :param severity: the least that counts; of less only the end of what was told, or is told now
    :param since_ts: older ones are not told any more
    """
    new = _new(since_ts)
    bad_enough = new.where(node_events.c.severity.in_(SEVERITIES[SEVERITIES.index(severity) :]))
    taken = _take(connection, _found(connection, bad_enough), now_ts)
    # the ends come second: what began is claimed then
    for kind in ENDS:
        ends = {event.node_id: event for event in reversed(_found(connection, _ends(new, kind)))}
        taken += _take(connection, ends.values(), now_ts)
    return taken + _take(connection, _found(connection, _ends_of_anomalies(new)), now_ts)


def _new(since_ts: int) -> _Events:
    event, notice = node_events.c, event_notices.c
    same = and_(notice.ts == event.ts, notice.node_id == event.node_id, notice.kind == event.kind)
    return (
        select(event.ts, event.node_id, nodes.c.name, event.kind, event.severity, event.message)
        .join_from(node_events, nodes, nodes.c.id == event.node_id)
        .outerjoin(event_notices, same)
        .where(event.ts >= since_ts, notice.ts.is_(None))
        .order_by(event.ts, event.node_id, event.kind)
        .limit(AT_ONCE)
    )


def _ends(new: _Events, kind: str) -> _Events:
    """Return those of ``kind`` on nodes of which people heard last that it began."""
    notice = event_notices.c
    begun_ts = func.max(case((notice.kind.in_(ENDS[kind]), notice.ts)))
    ended_ts = func.coalesce(func.max(case((notice.kind == kind, notice.ts))), 0)
    told = select(notice.node_id, begun_ts.label("ts")).where(notice.kind.in_((kind, *ENDS[kind])))
    open_now = told.group_by(notice.node_id).having(begun_ts > ended_ts).subquery()
    is_its = and_(open_now.c.node_id == node_events.c.node_id, open_now.c.ts < node_events.c.ts)
    return new.join(open_now, is_its).where(node_events.c.kind == kind)


def _ends_of_anomalies(new: _Events) -> _Events:
    """Return those of anomalies of whose begin people heard. An event may be some seconds later than its bucket."""
    event, anomaly = node_events.c, node_anomalies.c
    notice = event_notices.alias().c
    was_told = exists().where(
        anomaly.node_id == event.node_id,
        event.ts.between(anomaly.end_ts, anomaly.end_ts + BUCKET_S - 1),
        notice.kind == ANOMALY,
        notice.node_id == event.node_id,
        notice.ts.between(anomaly.ts, anomaly.ts + BUCKET_S - 1),
    )
    return new.where(event.kind == ANOMALY, event.severity == "info", was_told)


def _found(connection: Connection, query: _Events) -> list[Event]:
    return [Event(*row) for row in connection.execute(query)]


def _take(connection: Connection, events: Iterable[Event], now_ts: int) -> list[Event]:
    return [event for event in events if _is_ours(connection, event, now_ts)]


def _is_ours(connection: Connection, event: Event, now_ts: int) -> bool:
    values = {"ts": event.ts, "node_id": event.node_id, "kind": event.kind, "claimed_ts": now_ts}
    made = insert_into(connection, event_notices).values(values).on_conflict_do_nothing()
    return connection.execute(made.returning(event_notices.c.ts)).first() is not None


def confirm(connection: Connection, events: Sequence[Event], now_ts: int) -> None:
    """Note that ``events`` were sent."""
    for event in events:
        connection.execute(update(event_notices).where(_is(event)).values(sent_ts=now_ts))


def release(connection: Connection, events: Sequence[Event]) -> None:
    """Give ``events`` back, which surely reached nobody: the next claim takes them."""
    for event in events:
        connection.execute(delete(event_notices).where(_is(event), event_notices.c.sent_ts.is_(None)))


def _is(event: Event) -> ColumnElement[bool]:
    notice = event_notices.c
    return and_(notice.ts == event.ts, notice.node_id == event.node_id, notice.kind == event.kind)
