"""Approvals of the waves of a roll-out: what was asked, who said yes. The transaction is the caller's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from sqlalchemy import ColumnElement, Connection, and_, select, update

from evc.store.dialects import insert_into
from evc.store.tables import rollout_approvals


@dataclass(frozen=True, slots=True)
class Approval:
    """A row of ``rollout_approvals``.

    :param wave: the one that was asked for, from 0
    :param failed: names of the nodes that had failed when it was asked, sorted
    :param approved_ts: None: nobody has said yes
    """

    rollout_id: int
    wave: int
    failed: list[str]
    asked_ts: int
    approved_ts: int | None
    approved_by: str | None


def _key(rollout_id: int, wave: int) -> ColumnElement[bool]:
    return and_(rollout_approvals.c.rollout_id == rollout_id, rollout_approvals.c.wave == wave)


def find_approval(connection: Connection, rollout_id: int, wave: int) -> Approval | None:
    """Return what was asked before a wave, and answered; None where nothing was."""
    row = connection.execute(select(rollout_approvals).where(_key(rollout_id, wave))).mappings().first()
    return Approval(**{item.name: row[item.name] for item in fields(Approval)}) if row else None


def ask_approval(connection: Connection, rollout_id: int, wave: int, failed: Sequence[str], ts: int) -> None:
    """Keep that a wave is asked for, now; an earlier approval of it holds no more.

    :param failed: names of the nodes that have failed, which the question says
    """
    values = {"failed": list(failed), "asked_ts": ts, "approved_ts": None, "approved_by": None}
    statement = insert_into(connection, rollout_approvals).values(rollout_id=rollout_id, wave=wave, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["rollout_id", "wave"], set_=values))


def approve_wave(connection: Connection, rollout_id: int, wave: int, who: str, ts: int) -> None:
    """Keep that a wave that was asked for is approved."""
    statement = update(rollout_approvals).where(_key(rollout_id, wave))
    connection.execute(statement.values(approved_ts=ts, approved_by=who))
