"""Identities in the database: new sightings come out, links go in, each once.

A gallery has a name (a scenario's, by custom) and holds identities of one or more describers. Its version goes up with
every change; identities, visits and the places where reading goes on are written in one transaction, and only by who
has read that very version. So a task that was killed has written all or nothing, and of two at once one writes.

A run of inference that is done anew (a cleared task) replaces its lines. What the old ones have left is forgotten
first: its visits go; what they have added to the looks of an identity stays.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Select, Table, and_, case, delete, func, or_, select, update

from evc.errors import ParseError, Stopped
from evc.identities.embedding import decode
from evc.identities.gallery import Gallery, Identity, Visit
from evc.identities.link import Linked
from evc.identities.sightings import Sightings
from evc.identities.travel import Place
from evc.store.dialects import insert_into
from evc.store.tables import (
    identities,
    identity_cursors,
    identity_galleries,
    identity_visits,
    inference_results,
    inference_runs,
    nodes,
)

PERSON = "person"
ROWS_AT_ONCE = 5_000
_IDENTITIES_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Version:
    """Which state of a gallery was read.

    :param next_id: of the next identity
    """

    name: str
    version: int
    next_id: int


@dataclass(frozen=True, slots=True)
class NewSightings:
    """Lines that were not read for a gallery before.

    :param by_describer: what can be compared, by what made the vectors
    :param cursors: by run: ``seq`` of the last line that was read, and the run's ``started_ts``
    :param lines: of the kind, read
    :param skipped: of those: without an embedding, or with one that is damaged
    """

    by_describer: Mapping[str, Sightings]
    cursors: Mapping[int, tuple[int, int]]
    lines: int
    skipped: int

    @property
    def first_ts(self) -> float | None:
        """When the earliest was seen; None where there is none."""
        return min((float(seen.ts.min()) for seen in self.by_describer.values()), default=None)


# -- reading -----------------------------------------------------------------------------------------------------------


def open_gallery(connection: Connection, name: str) -> Version:
    """Return the state of a gallery, made where there is none."""
    made = insert_into(connection, identity_galleries).values(name=name, version=0, next_id=1)
    connection.execute(made.on_conflict_do_nothing(index_elements=["name"]))
    found = identity_galleries.c
    row = connection.execute(select(found.version, found.next_id).where(found.name == name)).one()
    return Version(name, row.version, row.next_id)


def new_sightings(
    connection: Connection,
    name: str,
    models: Collection[str],
    node_ids: Collection[int] | None = None,
    *,
    limit: int = 20_000,
    kind: str = PERSON,
) -> NewSightings:
    """Return what models have seen and nobody has linked in this gallery, at most about ``limit`` lines, by run.

    :param node_ids: of these nodes only; None: of all
    """
    by_describer: dict[str, _Columns] = {}
    cursors: dict[int, tuple[int, int]] = {}
    lines = skipped = 0
    for run_id, started_ts, after, last in _unread_runs(connection, name, models, node_ids):
        if lines >= limit:
            break
        rows = _read(connection, run_id, (after, last), limit - lines, kind)
        # the lines of other kinds are read too, so to speak: those before the last one, or all where this was the rest
        cursors[run_id] = (rows[-1].seq if len(rows) == limit - lines else last, started_ts)
        lines += len(rows)
        for row in rows:
            skipped += not _take(row, run_id, by_describer)
    seen = {describer: columns.sightings() for describer, columns in by_describer.items()}
    return NewSightings(seen, cursors, lines, skipped)


def _unread_runs(
    connection: Connection, name: str, models: Collection[str], node_ids: Collection[int] | None
) -> list[Any]:
    runs, read = inference_runs.c, identity_cursors.c
    is_same = read.started_ts == runs.started_ts
    after = case((is_same, read.seq), else_=-1)
    query = (
        select(runs.id, runs.started_ts, after, runs.lines - 1)
        .outerjoin(identity_cursors, and_(read.gallery == name, read.run_id == runs.id))
        .where(runs.model.in_(models), runs.lines > 0, or_(read.seq.is_(None), ~is_same, read.seq < runs.lines - 1))
        .order_by(runs.id)
    )
    if node_ids is not None:
        query = query.where(runs.node_id.in_(node_ids))
    return list(connection.execute(query))


def _read(connection: Connection, run_id: int, bounds: tuple[int, int], limit: int, kind: str) -> Sequence[Any]:
    told = inference_results.c
    query = (
        select(told.seq, told.node_id, told.ts, told.label, told.payload)
        .where(told.run_id == run_id, told.seq > bounds[0], told.seq <= bounds[1], told.kind == kind)
        .order_by(told.seq)
        .limit(limit)
    )
    return connection.execute(query).all()


class _Columns:
    def __init__(self, size: int) -> None:
        self.size = size
        self.rows: list[tuple[int, int, int, float, str]] = []
        self.vectors: list[Any] = []

    def sightings(self) -> Sightings:
        run, seq, node = (np.array([row[at] for row in self.rows], np.int64) for at in range(3))
        ts = np.array([row[3] for row in self.rows], np.float64)
        return Sightings(run, seq, node, ts, tuple(row[4] for row in self.rows), np.stack(self.vectors))


def _take(row: Any, run_id: int, by_describer: dict[str, _Columns]) -> bool:
    """Keep one line; return whether it can be linked."""
    payload = row.payload if isinstance(row.payload, dict) else {}
    describer = payload.get("describer")
    if not isinstance(describer, str) or not 0 < len(describer) <= 80 or not row.label:
        return False
    try:
        vector = decode(payload.get("embedding", ""))
    except ParseError:
        return False
    columns = by_describer.setdefault(describer, _Columns(len(vector)))
    if len(vector) != columns.size:
        return False
    columns.rows.append((run_id, row.seq, row.node_id, row.ts, row.label))
    columns.vectors.append(vector)
    return True


def load_gallery(connection: Connection, version: Version, describer: str, since_ts: float) -> Gallery:
    """Return the identities of a describer that were seen after ``since_ts``: older ones are not matched any more.

    Its ``next_id`` is that of ``version``, its ``through`` is empty: :func:`new_sightings` leaves out what was linked.
    """
    known = identities.c
    found = and_(known.gallery == version.name, known.describer == describer, known.end_ts >= int(since_ts))
    visited = identity_visits.c
    by_identity: dict[int, list[Visit]] = {}
    query = (
        select(identity_visits)
        .join(identities, and_(known.gallery == visited.gallery, known.id == visited.identity_id))
        .where(found)
    )
    for row in connection.execute(query):
        visit = Visit(
            float(row.ts), float(row.end_ts), row.node_id, row.run_id, row.track, row.sightings, row.similarity
        )
        by_identity.setdefault(row.identity_id, []).append(visit)
    made = {
        row.id: Identity(
            row.id, np.frombuffer(row.total, "<f4").astype(np.float32), tuple(sorted(by_identity[row.id], key=_order))
        )
        for row in connection.execute(select(known.id, known.total).where(found).order_by(known.id))
        if row.id in by_identity
    }
    return Gallery(describer, made, version.next_id)


def _order(visit: Visit) -> tuple[Any, ...]:
    return visit[:5]


def node_places(connection: Connection) -> dict[int, Place | None]:
    """Return where each node is, degrees north and east; None where nobody knows."""
    rows = connection.execute(select(nodes.c.id, nodes.c.latitude, nodes.c.longitude))
    return {
        row.id: None if row.latitude is None or row.longitude is None else (row.latitude, row.longitude) for row in rows
    }


# -- writing -----------------------------------------------------------------------------------------------------------


def store_links(connection: Connection, version: Version, new: NewSightings, linked: Sequence[Linked]) -> Version:
    """Store what was linked, and that ``new`` was read; returns the gallery's state after it.

    :param linked: one for each describer
    :raises Stopped: somebody else has changed the gallery since ``version`` was read; nothing was stored
    """
    next_id = max((each.gallery.next_id for each in linked), default=version.next_id)
    after = Version(version.name, version.version + 1, next_id)
    changed = identity_galleries.c
    claim = update(identity_galleries).where(changed.name == version.name, changed.version == version.version)
    if connection.execute(claim.values(version=after.version, next_id=after.next_id)).rowcount != 1:
        raise Stopped(f"gallery {version.name} was changed meanwhile: nothing of this is stored, the next run links it")
    _upsert(
        connection,
        identity_cursors,
        ("gallery", "run_id"),
        [
            {"gallery": version.name, "run_id": run_id, "seq": seq, "started_ts": started_ts}
            for run_id, (seq, started_ts) in new.cursors.items()
        ],
    )
    for each in linked:
        describer = each.gallery.describer
        _upsert(
            connection, identities, ("gallery", "id"), [_identity(version.name, describer, one) for one in each.changed]
        )
        _upsert(
            connection,
            identity_visits,
            ("gallery", "run_id", "track"),
            [_visit(version.name, identity_id, visit) for identity_id, visit in each.visits],
        )
        _link_ways(connection, version.name, {identity_id for identity_id, _ in each.visits})
    return after


def _identity(gallery: str, describer: str, one: Identity) -> dict[str, Any]:
    return {
        "gallery": gallery,
        "id": one.id,
        "describer": describer,
        "ts": int(one.begin),
        "end_ts": int(one.end),
        "visits": len(one.visits),
        "nodes": len({visit.node for visit in one.visits}),
        "sightings": one.sightings,
        "total": one.total.astype("<f4").tobytes(),
    }


def _visit(gallery: str, identity_id: int, visit: Visit) -> dict[str, Any]:
    return {
        "gallery": gallery,
        "run_id": visit.run,
        "track": visit.track,
        "identity_id": identity_id,
        "node_id": visit.node,
        "ts": int(visit.begin),
        "end_ts": int(visit.end),
        "sightings": visit.sightings,
        "similarity": visit.similarity,
    }


def _upsert(connection: Connection, table: Table, key: tuple[str, ...], rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        return
    statement = insert_into(connection, table)
    values = {name: statement.excluded[name] for name in rows[0] if name not in key}
    statement = statement.on_conflict_do_update(index_elements=list(key), set_=values)
    for begin in range(0, len(rows), ROWS_AT_ONCE):
        connection.execute(statement, rows[begin : begin + ROWS_AT_ONCE])


def _link_ways(connection: Connection, name: str, identity_ids: Collection[int]) -> None:
    """Say of each visit of these identities where they came from."""
    visited, ids = identity_visits.c, sorted(identity_ids)
    for begin in range(0, len(ids), _IDENTITIES_AT_ONCE):
        these = visited.identity_id.in_(ids[begin : begin + _IDENTITIES_AT_ONCE])
        came = _visits_before(and_(visited.gallery == name, these)).subquery().c
        is_way = came.from_node_id != visited.node_id
        from_node_id, left_ts = case((is_way, came.from_node_id)), case((is_way, came.left_ts))
        is_other = or_(visited.from_node_id.is_distinct_from(from_node_id), visited.left_ts.is_distinct_from(left_ts))
        is_same = and_(visited.gallery == name, visited.run_id == came.run_id, visited.track == came.track)
        linked = update(identity_visits).values(from_node_id=from_node_id, left_ts=left_ts)
        connection.execute(linked.where(is_same, is_other))


def _visits_before(which: ColumnElement[bool]) -> Select[Any]:
    """Return the keys of visits, each with the node of its identity's visit before it and when that ended."""
    visited = identity_visits.c

    def before(column: ColumnElement[Any]) -> ColumnElement[Any]:
        order = (visited.ts, visited.end_ts, visited.run_id, visited.track)
        return func.lag(column).over(partition_by=visited.identity_id, order_by=order)

    from_node_id, left_ts = before(visited.node_id).label("from_node_id"), before(visited.end_ts).label("left_ts")
    return select(visited.run_id, visited.track, from_node_id, left_ts).where(which)


def forget_replaced_runs(connection: Connection, name: str) -> int:
    """Drop the visits of runs that were done anew since they were linked; returns how many runs that were."""
    runs, read = inference_runs.c, identity_cursors.c
    replaced = (
        select(read.run_id)
        .join(inference_runs, runs.id == read.run_id)
        .where(read.gallery == name, read.started_ts != runs.started_ts)
    )
    run_ids = list(connection.execute(replaced).scalars())
    if run_ids:
        _drop_visits(connection, name, identity_visits.c.run_id.in_(run_ids))
        connection.execute(delete(identity_cursors).where(read.gallery == name, read.run_id.in_(run_ids)))
    return len(run_ids)


def forget_before(connection: Connection, name: str, ts: int) -> int:
    """Drop the identities that were not seen since ``ts``, with their visits; returns how many. For retention."""
    known = identities.c
    old = select(known.id).where(known.gallery == name, known.end_ts < ts)
    if connection.execute(old.limit(1)).first() is None:
        return 0  # a change would stop whoever links just now
    visited = identity_visits.c
    connection.execute(delete(identity_visits).where(visited.gallery == name, visited.identity_id.in_(old)))
    _changed(connection, name)
    return int(connection.execute(delete(identities).where(known.gallery == name, known.end_ts < ts)).rowcount)


def _drop_visits(connection: Connection, name: str, which: Any) -> None:
    """Drop visits; identities without one go, the others are counted anew."""
    visited, known = identity_visits.c, identities.c
    touched = set(connection.execute(select(visited.identity_id).where(visited.gallery == name, which)).scalars())
    connection.execute(delete(identity_visits).where(visited.gallery == name, which))
    for identity_id in sorted(touched):
        of_it = and_(visited.gallery == name, visited.identity_id == identity_id)
        left = connection.execute(
            select(
                func.count(),
                func.min(visited.ts),
                func.max(visited.end_ts),
                func.count(visited.node_id.distinct()),
                func.sum(visited.sightings),
            ).where(of_it)
        ).one()
        one = and_(known.gallery == name, known.id == identity_id)
        if left[0]:
            values = dict(zip(("visits", "ts", "end_ts", "nodes", "sightings"), left, strict=True))
            connection.execute(update(identities).where(one).values(values))
        else:
            connection.execute(delete(identities).where(one))
    _link_ways(connection, name, touched)
    _changed(connection, name)


def _changed(connection: Connection, name: str) -> None:
    own = identity_galleries.c
    connection.execute(update(identity_galleries).where(own.name == name).values(version=own.version + 1))


# -- what a dashboard draws --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Way:
    """Somebody was seen by one node, then by another.

    :param left_ts: seen last by the first, unix seconds
    :param ts: seen first by the second
    """

    identity_id: int
    from_node_id: int
    to_node_id: int
    left_ts: int
    ts: int


def ways(connection: Connection, name: str, begin_ts: int, end_ts: int) -> list[Way]:
    """Return the ways from node to node that ended from ``begin_ts`` to ``end_ts``, both included, by time."""
    visited = identity_visits.c
    query = (
        select(visited.identity_id, visited.from_node_id, visited.node_id, visited.left_ts, visited.ts)
        .where(visited.gallery == name, visited.ts.between(begin_ts, end_ts), visited.from_node_id.is_not(None))
        .order_by(visited.ts, visited.identity_id)
    )
    return [Way(*row) for row in connection.execute(query)]
