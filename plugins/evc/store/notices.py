"""Which events people were told of. An event is claimed before it is sent: two tasks never send the same one."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, and_, delete, select, update

from evc.fleet.notices import Event
from evc.store.dialects import insert_into
from evc.store.events import SEVERITIES
from evc.store.tables import event_notices, node_events, nodes

AT_ONCE = 5_000


def claim(connection: Connection, severity: str, since_ts: int, now_ts: int) -> list[Event]:
    """Take the events that nobody was told of yet; they are this caller's from the end of the transaction on.

    :param severity: the least that counts
    :param since_ts: older ones are not told any more
    """
    event, notice = node_events.c, event_notices.c
    same = and_(notice.ts == event.ts, notice.node_id == event.node_id, notice.kind == event.kind)
    query = (
        select(event.ts, event.node_id, nodes.c.name, event.kind, event.severity, event.message)
        .join_from(node_events, nodes, nodes.c.id == event.node_id)
        .outerjoin(event_notices, same)
        .where(event.ts >= since_ts, event.severity.in_(SEVERITIES[SEVERITIES.index(severity) :]), notice.ts.is_(None))
        .order_by(event.ts, event.node_id, event.kind)
        .limit(AT_ONCE)
    )
    found = [Event(*row) for row in connection.execute(query)]
    return [event for event in found if _is_ours(connection, event, now_ts)]


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
