"""Approvals of waves: what a person is asked, and whether it has to be asked at all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from sqlalchemy import Connection, Engine

from evc.errors import RolloutFailed
from evc.fleet.waves import FAILED, SUCCEEDED
from evc.fleet.words import counted
from evc.hooks.metrics import checked_engine
from evc.store.approvals import approve_wave, ask_approval, find_approval
from evc.store.rollout_nodes import RolloutNode, list_rollout_nodes
from evc.store.rollouts import Rollout, find_rollout

SHOWN_NAMES = 20


@dataclass(frozen=True, slots=True)
class Question:
    """What a person is asked before a wave.

    :param subject: one line
    :param body: Markdown
    :param failed_since: names of nodes that failed after the wave had been approved: the approval holds no more
    """

    subject: str
    body: str
    failed_since: tuple[str, ...] = ()


class ApprovalHook:
    """Asks for the waves of a roll-out, each once; one object serves one task."""

    @cached_property
    def engine(self) -> Engine:
        """The metrics database. :raises DatabaseError: away, or of another version"""
        return checked_engine()

    def ask(self, run_id: str, wave: int) -> Question | None:
        """Return what to ask before a wave begins; None where it is approved and no node has failed since.

        :param run_id: of the roll-out
        :param wave: from 0
        """
        with self.engine.begin() as connection:
            rollout = self._rollout(connection, run_id)
            nodes = list_rollout_nodes(connection, rollout.id)
            failed = sorted(node.name for node in nodes if node.status in FAILED)
            before = find_approval(connection, rollout.id, wave)
            since: list[str] = []
            if before and before.approved_ts is not None:
                since = [name for name in failed if name not in before.failed]
                if not since:
                    return None
            ask_approval(connection, rollout.id, wave, failed, int(time.time()))
        return Question(_subject(rollout, nodes, wave), _body(rollout, nodes, wave), tuple(since))

    def approve(self, run_id: str, wave: int, who: str) -> None:
        """Keep that a wave was approved: whatever happens to the task, it is not asked for again.

        :param who: name of the person
        """
        with self.engine.begin() as connection:
            approve_wave(connection, self._rollout(connection, run_id).id, wave, who, int(time.time()))

    def _rollout(self, connection: Connection, run_id: str) -> Rollout:
        rollout = find_rollout(connection, run_id=run_id)
        if rollout is None:
            raise RolloutFailed(f"run {run_id} has no roll-out: its plan did not make one")
        return rollout


def _subject(rollout: Rollout, nodes: Sequence[RolloutNode], wave: int) -> str:
    count = sum(node.wave == wave for node in nodes)
    name = str(rollout)
    return f"{name[0].upper()}{name[1:]}: go on with wave {_of(nodes, wave)}, {counted(count, 'node')}?"


def _body(rollout: Rollout, nodes: Sequence[RolloutNode], wave: int) -> str:
    done = [node for node in nodes if node.wave == wave - 1]
    good, bad = _names(done, {SUCCEEDED}), _names(done, FAILED)
    others = len(done) - len(good) - len(bad)
    silent = f", {others} did not answer" if others else ""
    coming = [node.name for node in nodes if node.wave == wave]
    lines = [
        f"- image: `{rollout.repository}@{rollout.digest}`",
        f"- wave {_of(nodes, wave - 1)} is done: {len(good)} succeeded, {len(bad)} failed{silent}",
    ]
    if bad:
        lines.append(f"- failed: {_some(bad)}")
    if earlier := _names([node for node in nodes if node.wave < wave - 1], FAILED):
        lines.append(f"- failed in the waves before: {_some(earlier)}")
    lines.append(f"- wave {_of(nodes, wave)} is next: {counted(len(coming), 'node')}: {_some(coming)}")
    reject = "Reject: the roll-out ends; nodes that have the new image keep it."
    return "\n".join([*lines, "", f"Why a node failed: `evc rollouts nodes {rollout.id}`. {reject}"])


def _of(nodes: Sequence[RolloutNode], wave: int) -> str:
    return f"{wave + 1} of {1 + max(node.wave for node in nodes)}"


def _names(nodes: Sequence[RolloutNode], statuses: frozenset[str] | set[str]) -> list[str]:
    return [node.name for node in nodes if node.status in statuses]


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")
