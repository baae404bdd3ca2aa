"""Roll-outs in the metrics database: one row each, and the lock that keeps two of one model apart.

Functions take a connection; the transaction is the caller's. Every one may be called again after a task was killed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, case, func, insert, or_, select, update

from evc.errors import InputError
from evc.fleet.nodes import quote
from evc.fleet.waves import ABORTED, FAILED, PENDING, SUCCEEDED, WAITING, WORKING
from evc.store.assignments import give_back
from evc.store.dialects import insert_into
from evc.store.tables import assignments, builds, rollout_nodes, rollouts

RUNNING = "running"
END_STATUSES = ("succeeded", "failed", "aborted", "rolled_back")
PAUSE, ABORT, ROLLBACK = "pause", "abort", "rollback"


@dataclass(frozen=True, slots=True)
class NewRollout:
    """What a roll-out is asked to do, see :data:`~evc.store.tables.rollouts`."""

    run_id: str
    model: str
    repository: str
    digest: str
    tag: str | None
    spec: Mapping[str, Any]
    layers: Mapping[str, Any] | None
    waves: Sequence[int | str]
    success_threshold: float
    error_threshold: float
    deadline_ts: int


@dataclass(frozen=True, slots=True)
class Rollout(NewRollout):
    """A row of ``rollouts``."""

    id: int
    status: str
    command: str | None
    created_ts: int
    finished_ts: int | None
    message: str | None

    @property
    def is_finished(self) -> bool:
        return self.finished_ts is not None

    def __str__(self) -> str:
        """What it is called in messages."""
        return f"roll-out {self.id} of {self.model}{f':{self.tag}' if self.tag else ''}"


def _rollout(row: RowMapping) -> Rollout:
    return Rollout(**{item.name: row[item.name] for item in fields(Rollout)})


def create_rollout(
    connection: Connection, new: NewRollout, waves: Iterable[Iterable[int]], ts: int
) -> tuple[Rollout, bool]:
    """Store a roll-out with its nodes, and return it and whether it is the caller's own.

    Its own is also one that an earlier try of the same run stored: it is returned as it is. Otherwise the one that
    holds the lock of the model is returned. What earlier, finished roll-outs of the model still hold pending on these
    nodes is over: this one is newer.

    :param waves: ids of the nodes of each wave
    :param ts: unix seconds
    """
    values = {item.name: getattr(new, item.name) for item in fields(NewRollout)}
    values |= {"spec": dict(new.spec), "waves": list(new.waves), "status": RUNNING, "created_ts": ts}
    known = find_rollout(connection, run_id=new.run_id) or unfinished_rollout(connection, new.model)
    if known:
        return known, known.run_id == new.run_id
    for _ in range(2):
        statement = insert_into(connection, rollouts).values(values).on_conflict_do_nothing().returning(rollouts.c.id)
        made = connection.execute(statement).scalar()
        if made is not None:
            _add_nodes(connection, int(made), new.model, waves, ts)
        found = find_rollout(connection, run_id=new.run_id)
        if found:
            return found, True
        holder = unfinished_rollout(connection, new.model)
        if holder:
            return holder, False
    raise InputError("model", "its roll-outs are being changed by someone else", "once more, in a moment")


def _add_nodes(connection: Connection, rollout_id: int, model: str, waves: Iterable[Iterable[int]], ts: int) -> None:
    places = {node_id: wave for wave, node_ids in enumerate(waves) for node_id in node_ids}
    query = (
        select(rollout_nodes.c.rollout_id, rollout_nodes.c.node_id)
        .join(rollouts)
        .where(
            rollouts.c.model == model,
            rollouts.c.id != rollout_id,
            rollout_nodes.c.status == PENDING,
            rollout_nodes.c.node_id.in_(places),
        )
    )
    for older_id, node_id in connection.execute(query).all():
        _end_pending(connection, older_id, node_id, "expired", f"roll-out {rollout_id} came after it", ts)
    desired: dict[int, Mapping[str, Any]] = {
        row["node_id"]: dict(row)
        for row in connection.execute(
            select(assignments).where(assignments.c.model == model, assignments.c.node_id.in_(places))
        ).mappings()
    }
    rows = []
    for node_id, wave in places.items():
        before: Mapping[str, Any] = desired.get(node_id) or {}
        rows.append(
            {
                "rollout_id": rollout_id,
                "node_id": node_id,
                "wave": wave,
                "status": WAITING,
                "previous_digest": before.get("digest"),
                "previous_repository": before.get("repository"),
                "previous_spec": before.get("spec"),
            }
        )
    connection.execute(insert(rollout_nodes), rows)


def find_rollout(connection: Connection, *, rollout_id: int | None = None, run_id: str | None = None) -> Rollout | None:
    """Return the roll-out of that id, or of that DAG run."""
    wanted = rollouts.c.id == rollout_id if rollout_id is not None else rollouts.c.run_id == run_id
    row = connection.execute(select(rollouts).where(wanted)).mappings().first()
    return _rollout(row) if row else None


def unfinished_rollout(connection: Connection, model: str) -> Rollout | None:
    """Return the roll-out that holds the lock of ``model``."""
    query = select(rollouts).where(rollouts.c.model == model, rollouts.c.finished_ts.is_(None))
    row = connection.execute(query).mappings().first()
    return _rollout(row) if row else None


def unfinished_rollouts(connection: Connection) -> list[Rollout]:
    """Return every roll-out that is not finished, the oldest first."""
    query = select(rollouts).where(rollouts.c.finished_ts.is_(None)).order_by(rollouts.c.id)
    return [_rollout(row) for row in connection.execute(query).mappings()]


def rollout_rows(connection: Connection, limit: int = 20) -> list[dict[str, Any]]:
    """Return roll-outs, the newest first, each with how many nodes it has and what became of them.

    Keys: the columns of ``rollouts`` but ``spec`` and ``layers``; ``nodes``, ``succeeded``, ``failed``, ``pending``.
    """
    status = rollout_nodes.c.status

    def counted(*wanted: str) -> Any:
        return func.coalesce(func.sum(case((status.in_(wanted), 1), else_=0)), 0)

    shown = [column for column in rollouts.c if column.name not in ("spec", "layers", "waves", "tag")]
    # a scenario rolls out the digest that it has built
    built = select(builds.c.tag).where(builds.c.digest == rollouts.c.digest).order_by(builds.c.id.desc()).limit(1)
    tag = func.coalesce(rollouts.c.tag, built.scalar_subquery()).label("tag")
    query = (
        select(
            *shown,
            tag,
            func.count(rollout_nodes.c.node_id).label("nodes"),
            counted(SUCCEEDED).label("succeeded"),
            counted(*FAILED).label("failed"),
            counted(PENDING).label("pending"),
        )
        .join(rollout_nodes, isouter=True)
        .group_by(*shown, rollouts.c.tag)
        .order_by(rollouts.c.id.desc())
        .limit(limit)
    )
    found = [dict(row) for row in connection.execute(query).mappings()]
    ids = [row["id"] for row in found]
    waves = {row.id: row.waves for row in connection.execute(select(rollouts).where(rollouts.c.id.in_(ids)))}
    return [{**row, "waves": waves[row["id"]]} for row in found]


def recorded_spec(connection: Connection, model: str, digest: str | None) -> dict[str, Any] | None:
    """Return model.yaml as it was when an image was built.

    :param digest: of which image; None: of any image of the model
    """
    query = select(builds.c.spec).where(builds.c.model == model, builds.c.status.in_(["succeeded", "unchanged"]))
    if digest is not None:
        query = query.where(builds.c.digest == digest)
    found = connection.execute(query.order_by(builds.c.id.desc()).limit(1)).scalar()
    return None if found is None else dict(found)


# -- what a person asks for ------------------------------------------------------------------------------------------


def set_command(connection: Connection, rollout_id: int, command: str | None) -> bool:
    """Ask an unfinished roll-out to pause, or (None) to go on; False where it is finished, aborted or goes back."""
    free = or_(rollouts.c.command.is_(None), rollouts.c.command == PAUSE)
    statement = update(rollouts).where(rollouts.c.id == rollout_id, rollouts.c.finished_ts.is_(None), free)
    return connection.execute(statement.values(command=command)).rowcount > 0


def abort_rollout(connection: Connection, rollout_id: int, message: str, ts: int) -> bool:
    """End a roll-out: no node starts any more, none is waited for; what is done stays.

    False where it is finished or goes back already.
    Where no node is at work it is finished at once, else its DAG run finishes it when those nodes are done.

    :param message: who, why
    """
    free = or_(rollouts.c.command.is_(None), rollouts.c.command != ROLLBACK)
    statement = update(rollouts).where(rollouts.c.id == rollout_id, rollouts.c.finished_ts.is_(None), free)
    if connection.execute(statement.values(command=ABORT, message=message)).rowcount == 0:
        return False
    _end_waiting(connection, rollout_id, message, ts)
    _end_all_pending(connection, rollout_id, ABORTED, message, ts)
    working = select(rollout_nodes.c.node_id).where(
        rollout_nodes.c.rollout_id == rollout_id, rollout_nodes.c.status.in_(WORKING)
    )
    if connection.execute(working.limit(1)).first() is None:
        finish_rollout(connection, rollout_id, "aborted", message, ts)
    return True


def control_rollout(connection: Connection, rollout_id: int | None, model: str | None, action: str, ts: int) -> str:
    """Pause, resume or abort a roll-out; returns what was done, on one line. The transaction is the caller's.

    :raises InputError: there is none, or it is over
    """
    rollout = _controlled(connection, rollout_id, model)
    if rollout.is_finished:
        raise InputError("rollout", f"{rollout} has ended: {rollout.status}", "one that is not finished")
    if rollout.command == ROLLBACK or (rollout.command == ABORT and action != "abort"):
        doing = "goes back" if rollout.command == ROLLBACK else "is being aborted"
        raise InputError("rollout", f"{rollout} {doing}", "to wait for its end")
    if action == "abort":
        abort_rollout(connection, rollout.id, "aborted by request", ts)
        return f"{rollout}: aborted: no further node begins, nodes that have it keep it"
    if action not in ("pause", "resume"):
        raise InputError("action", f"{quote(action)} is unknown", "pause, resume or abort")
    set_command(connection, rollout.id, PAUSE if action == "pause" else None)
    if action == "pause":
        return f"{rollout}: pauses: no further node begins, those at work end"
    return f"{rollout}: goes on"


def _controlled(connection: Connection, rollout_id: int | None, model: str | None) -> Rollout:
    if (rollout_id is None) == (not model):
        raise InputError("rollout", "not exactly one of rollout and model was given", "the id of one, or a model")
    if rollout_id is not None:
        rollout = find_rollout(connection, rollout_id=rollout_id)
        wrong = f"there is no roll-out {rollout_id}"
    else:
        rollout = unfinished_rollout(connection, str(model))
        wrong = f"no roll-out of {quote(model)} goes on"
    if rollout is None:
        raise InputError("rollout", wrong, "one that `evc rollouts` lists as running")
    return rollout


def begin_rollback(connection: Connection, rollout_id: int, message: str, ts: int) -> bool:
    """Let a roll-out go back: no node starts any more, and those that have its digest should have what they had before.

    False where it is finished or aborted. Done a second time it changes nothing.
    """
    unfinished = and_(rollouts.c.id == rollout_id, rollouts.c.finished_ts.is_(None))
    free = or_(rollouts.c.command.is_(None), rollouts.c.command == PAUSE)
    statement = update(rollouts).where(unfinished, free).values(command=ROLLBACK, message=message)
    if connection.execute(statement).rowcount == 0:
        return connection.execute(select(rollouts.c.command).where(unfinished)).scalar() == ROLLBACK
    _end_waiting(connection, rollout_id, "the roll-out went back before its turn", ts)
    _end_all_pending(connection, rollout_id, ABORTED, "the roll-out went back before it answered", ts)
    fail_unfinished(connection, rollout_id, ts)
    query = select(rollout_nodes.c.node_id).where(rollout_nodes.c.rollout_id == rollout_id)
    for node_id in connection.execute(query.where(rollout_nodes.c.status == SUCCEEDED)).scalars().all():
        give_back(connection, rollout_id, int(node_id), ts, status="pending")
    return True


# -- its end ---------------------------------------------------------------------------------------------------------


def finish_rollout(connection: Connection, rollout_id: int, status: str, message: str, ts: int) -> bool:
    """Close a roll-out and free the lock of its model; False where that was done before.

    Nodes that wait are aborted; one whose task ended in the middle failed. Pending ones stay so after a success: they
    have until the deadline; and after a roll-back: they still go back when they answer. After any other end nobody
    brings them there any more.

    :param status: one of :data:`END_STATUSES`
    """
    if status not in END_STATUSES:
        raise ValueError(f"{status!r} is no end of a roll-out")
    statement = update(rollouts).where(rollouts.c.id == rollout_id, rollouts.c.finished_ts.is_(None))
    closed = connection.execute(statement.values(status=status, message=message, finished_ts=ts)).rowcount > 0
    if closed:
        _end_waiting(connection, rollout_id, "the roll-out ended before its turn", ts)
        fail_unfinished(connection, rollout_id, ts)
        if status not in ("succeeded", "rolled_back"):
            _end_all_pending(connection, rollout_id, ABORTED, "the roll-out ended before it answered", ts)
    return closed


def abandon_rollout(connection: Connection, rollout_id: int, ts: int, message: str | None = None) -> bool:
    """Close a roll-out that goes no further, freeing the lock of its model; False where it is finished.

    What is done stays; where it was going back, the nodes that still have its digest go back when they are reached.

    :param message: why; None: nobody closed it
    """
    row = connection.execute(select(rollouts).where(rollouts.c.id == rollout_id)).mappings().first()
    if row is None or row["command"] != ROLLBACK:
        return finish_rollout(connection, rollout_id, "aborted", message or "its DAG run ended without closing it", ts)
    if not finish_rollout(connection, rollout_id, "rolled_back", message or row["message"] or "", ts):
        return False
    still = and_(rollout_nodes.c.rollout_id == rollout_id, rollout_nodes.c.status == SUCCEEDED)
    values = {"status": PENDING, "message": "goes back as soon as it is reached", "finished_ts": None}
    connection.execute(update(rollout_nodes).where(still).values(values))
    return True


def fail_unfinished(connection: Connection, rollout_id: int, ts: int, wave: int | None = None) -> None:
    """Mark as failed the nodes whose tasks are over though they are not: someone ended the task, or its worker died.

    :param wave: only this one, and those that never began too; None: all that began
    """
    over = rollout_nodes.c.status.in_(WORKING if wave is None else {*WORKING, WAITING})
    statement = update(rollout_nodes).where(rollout_nodes.c.rollout_id == rollout_id, over)
    if wave is not None:
        statement = statement.where(rollout_nodes.c.wave == wave)
    connection.execute(statement.values(status="failed", message="its task ended before it was done", finished_ts=ts))


def expire_pending(connection: Connection, ts: int) -> list[tuple[int, int]]:
    """Give up the nodes that did not answer until the deadline of their roll-out: they keep what they have.

    One that has to go back is not given up.

    Returns ``(rollout_id, node_id)`` of each.
    """
    query = (
        select(rollout_nodes.c.rollout_id, rollout_nodes.c.node_id)
        .join(rollouts)
        .where(
            rollout_nodes.c.status == PENDING,
            rollouts.c.deadline_ts <= ts,
            or_(rollouts.c.command.is_(None), rollouts.c.command != ROLLBACK),
        )
    )
    found = [(int(rollout_id), int(node_id)) for rollout_id, node_id in connection.execute(query).all()]
    for rollout_id, node_id in found:
        _end_pending(connection, rollout_id, node_id, "expired", "did not answer until the deadline", ts)
    return found


def _end_waiting(connection: Connection, rollout_id: int, message: str, ts: int) -> None:
    statement = update(rollout_nodes).where(rollout_nodes.c.rollout_id == rollout_id, rollout_nodes.c.status == WAITING)
    connection.execute(statement.values(status=ABORTED, message=message, finished_ts=ts))


def _end_all_pending(connection: Connection, rollout_id: int, status: str, message: str, ts: int) -> None:
    query = select(rollout_nodes.c.node_id).where(
        rollout_nodes.c.rollout_id == rollout_id, rollout_nodes.c.status == PENDING
    )
    for node_id in connection.execute(query).scalars().all():
        _end_pending(connection, rollout_id, int(node_id), status, message, ts)


def _end_pending(connection: Connection, rollout_id: int, node_id: int, status: str, message: str, ts: int) -> None:
    key = and_(rollout_nodes.c.rollout_id == rollout_id, rollout_nodes.c.node_id == node_id)
    statement = update(rollout_nodes).where(key, rollout_nodes.c.status == PENDING)
    if connection.execute(statement.values(status=status, message=message, finished_ts=ts)).rowcount:
        give_back(connection, rollout_id, node_id, ts)
