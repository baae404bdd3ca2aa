"""Models and builds in the metrics database. Functions take a connection; the transaction is the caller's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select, update

from evc.store.dialects import insert_into
from evc.store.tables import builds, models, nodes

DONE = ("succeeded", "unchanged")


def begin_build(connection: Connection, run_id: str, build: Mapping[str, Any], ts: int) -> int:
    """Store that a build runs; returns its id. A retry of the same run goes on with the same row.

    :param build: ``model``, ``version``, ``repository``, ``tag``, ``platform``, ``builder_id``, ``source_revision``,
        ``spec``
    :param ts: unix seconds
    """
    values = {**build, "status": "running", "digest": None, "size_bytes": None, "finished_ts": None, "message": None}
    statement = insert_into(connection, builds).values(run_id=run_id, started_ts=ts, **values)
    statement = statement.on_conflict_do_update(index_elements=[builds.c.run_id], set_=values)
    return int(connection.execute(statement.returning(builds.c.id)).scalar_one())


def end_build(
    connection: Connection,
    run_id: str,
    status: str,
    ts: int,
    *,
    digest: str | None = None,
    size_bytes: int | None = None,
    message: str | None = None,
) -> None:
    """Store how a build ended.

    :param status: ``succeeded``, ``unchanged`` or ``failed``
    :param size_bytes: compressed: what a pull transfers
    """
    values = {"status": status, "finished_ts": ts, "digest": digest, "size_bytes": size_bytes, "message": message}
    connection.execute(update(builds).where(builds.c.run_id == run_id).values(values))


def find_build(connection: Connection, run_id: str) -> dict[str, Any] | None:
    """Return the build of a DAG run."""
    row = connection.execute(select(builds).where(builds.c.run_id == run_id)).mappings().first()
    return dict(row) if row else None


def last_build(connection: Connection, repository: str, tag: str, platform: str) -> dict[str, Any] | None:
    """Return the last build that reached the registry under that name, with ``builder``, its builder's name."""
    query = (
        select(builds, nodes.c.name.label("builder"))
        .join(nodes, nodes.c.id == builds.c.builder_id)
        .where(builds.c.repository == repository, builds.c.tag == tag, builds.c.platform == platform)
        .where(builds.c.status.in_(DONE), builds.c.digest.is_not(None))
        .order_by(builds.c.id.desc())
        .limit(1)
    )
    row = connection.execute(query).mappings().first()
    return dict(row) if row else None


def build_rows(connection: Connection, model: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
    """Return builds, the newest first, with ``builder``, the builder's name."""
    query = select(builds, nodes.c.name.label("builder")).join(nodes, nodes.c.id == builds.c.builder_id)
    if model is not None:
        query = query.where(builds.c.model == model)
    query = query.order_by(builds.c.id.desc()).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]


def store_model(connection: Connection, spec: Mapping[str, Any], source_revision: str, ts: int) -> None:
    """Store what a model is now.

    :param spec: as its model.yaml says
    """
    values = {name: spec[name] for name in ("description", "task", "version")}
    values |= {"spec": dict(spec), "source_revision": source_revision, "updated_ts": ts}
    statement = insert_into(connection, models).values(name=spec["name"], **values)
    connection.execute(statement.on_conflict_do_update(index_elements=[models.c.name], set_=values))
