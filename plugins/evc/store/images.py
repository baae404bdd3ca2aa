"""The registry's images in the metrics database: what is there, what was, who uses it.

A row is one tag that leads to one digest. Rows are never dropped: a tag that is gone, or leads elsewhere now, has
``gone_ts``; one that comes back has none again. Functions take a connection; the transaction is the caller's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, func, or_, select, update

from evc.store.dialects import insert_into
from evc.store.tables import assignments, inference_runs, nodes, registry_images, rollout_nodes, rollouts

Tagged = tuple[str, str, str]
"""Repository, tag, digest."""

_KEY = (registry_images.c.repository, registry_images.c.tag, registry_images.c.digest)


@dataclass(frozen=True, slots=True)
class Details:
    """What an image tells of itself. :param created_ts: unix seconds"""

    size_bytes: int | None = None
    platform: str | None = None
    created_ts: int | None = None
    description: str | None = None
    source_revision: str | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs from the last look, sorted.

    :param added: seen for the first time
    :param back: were gone
    :param gone: are gone
    """

    added: Sequence[Tagged]
    back: Sequence[Tagged]
    gone: Sequence[Tagged]


@dataclass(frozen=True, slots=True)
class Users:
    """Who needs an image, names sorted.

    :param running: nodes on which it runs
    :param assigned: nodes that should have it
    :param inferring: nodes with an inference under way
    :param rollouts: unfinished roll-outs that bring it or may go back to it, by id
    """

    running: Sequence[str]
    assigned: Sequence[str]
    inferring: Sequence[str]
    rollouts: Sequence[int]

    def __bool__(self) -> bool:
        return bool(self.running or self.assigned or self.inferring or self.rollouts)


def image_rows(connection: Connection, gone: bool = False) -> list[dict[str, Any]]:
    """Return every column of every image, sorted by repository, tag and digest. :param gone: those that are gone too"""
    query = select(registry_images).order_by(*_KEY)
    if not gone:
        query = query.where(registry_images.c.gone_ts.is_(None))
    return [dict(row) for row in connection.execute(query).mappings()]


def last_look(connection: Connection) -> int | None:
    """Return when the registry was seen last, unix seconds; None: no image was ever seen in it."""
    return connection.execute(select(func.max(registry_images.c.last_seen_ts))).scalar()


def known_details(connection: Connection) -> dict[tuple[str, str], Details]:
    """Return what is known of images, by repository and digest: what a digest stands for never changes."""
    columns = [registry_images.c[item.name] for item in fields(Details)]
    query = select(registry_images.c.repository, registry_images.c.digest, *columns)
    rows = connection.execute(query.where(registry_images.c.size_bytes.is_not(None)))
    return {(row[0], row[1]): Details(*row[2:]) for row in rows}


def record_images(connection: Connection, found: dict[Tagged, Details], ts: int) -> Changes:
    """Store what the registry holds now, all of it; what is stored and not ``found`` is marked as gone.

    :param found: details that are None leave what was known before
    :param ts: of the look, unix seconds
    """
    rows = connection.execute(select(*_KEY, registry_images.c.gone_ts))
    before = {(repository, tag, digest): gone_ts for repository, tag, digest, gone_ts in rows}
    _upsert(connection, found, ts)
    gone = sorted(key for key, gone_ts in before.items() if gone_ts is None and key not in found)
    _mark(connection, gone, ts)
    return Changes(
        added=sorted(found.keys() - before.keys()),
        back=sorted(key for key in found if before.get(key) is not None),
        gone=gone,
    )


def mark_gone(connection: Connection, repository: str, digest: str, ts: int) -> list[str]:
    """Mark an image as gone under each of its tags; returns those that were there. A second call changes nothing.

    :param ts: unix seconds
    """
    image = and_(registry_images.c.repository == repository, registry_images.c.digest == digest)
    there = update(registry_images).where(image, registry_images.c.gone_ts.is_(None)).values(gone_ts=ts)
    return sorted(connection.execute(there.returning(registry_images.c.tag)).scalars())


def image_users(connection: Connection, repository: str, digest: str) -> Users:
    """Return who would miss an image. Nodes that were removed need none."""
    desired = and_(assignments.c.repository == repository, assignments.c.digest == digest)
    running = _names(connection, assignments.c.node_id, assignments.c.running_digest == digest)
    assigned = _names(connection, assignments.c.node_id, desired)
    under_way = and_(
        inference_runs.c.digest == digest, inference_runs.c.mode == "once", inference_runs.c.finished_ts.is_(None)
    )
    return Users(
        running,
        [name for name in assigned if name not in running],
        _names(connection, inference_runs.c.node_id, under_way),
        _rollouts(connection, repository, digest),
    )


def _upsert(connection: Connection, found: dict[Tagged, Details], ts: int) -> None:
    if not found:
        return
    statement = insert_into(connection, registry_images)
    learned = {
        item.name: func.coalesce(statement.excluded[item.name], registry_images.c[item.name])
        for item in fields(Details)
    }
    statement = statement.on_conflict_do_update(
        index_elements=[column.name for column in _KEY],
        set_={**learned, "last_seen_ts": statement.excluded.last_seen_ts, "gone_ts": None},
    )
    rows = [
        {
            "repository": key[0],
            "tag": key[1],
            "digest": key[2],
            "first_seen_ts": ts,
            "last_seen_ts": ts,
            **asdict(details),
        }
        for key, details in sorted(found.items(), key=lambda item: item[0])
    ]
    connection.execute(statement, rows)


def _mark(connection: Connection, keys: Iterable[Tagged], ts: int) -> None:
    rows = [{f"its_{column.name}": value for column, value in zip(_KEY, key, strict=True)} for key in keys]
    if rows:
        same = and_(*(column == bindparam(f"its_{column.name}") for column in _KEY))
        connection.execute(update(registry_images).where(same).values(gone_ts=ts), rows)


def _names(connection: Connection, node_id: ColumnElement[int], condition: ColumnElement[bool]) -> list[str]:
    query = select(nodes.c.name).join_from(node_id.table, nodes, nodes.c.id == node_id)
    rows = connection.execute(query.where(condition, nodes.c.removed_ts.is_(None)).distinct())
    return sorted(rows.scalars())


def _rollouts(connection: Connection, repository: str, digest: str) -> list[int]:
    brings = and_(rollouts.c.repository == repository, rollouts.c.digest == digest)
    may_go_back = (
        select(rollout_nodes.c.rollout_id)
        .where(rollout_nodes.c.previous_repository == repository, rollout_nodes.c.previous_digest == digest)
        .scalar_subquery()
    )
    query = select(rollouts.c.id).where(rollouts.c.finished_ts.is_(None), or_(brings, rollouts.c.id.in_(may_go_back)))
    return sorted(connection.execute(query).scalars())
