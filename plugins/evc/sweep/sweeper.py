"""One sweep: every node is asked once, at the same time, and each one's failure is its own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from evc.errors import ConnectionCut, CredentialsError, EvcError, HostKeyChanged, NodeError, NodeTimeout
from evc.fleet.nodes import Node
from evc.probes import PROBES
from evc.probes.answer import parse_answer
from evc.probes.probe import Probe
from evc.probes.script import build_script
from evc.ssh.pool import Pool
from evc.ssh.session import Ended, Reply, Session, fingerprint
from evc.sweep.reading import Memory, Outcome, add_event, answered, due_probes, silent

log = logging.getLogger(__name__)

_MISSING = {
    Ended.TIMEOUT: "answer not complete: time-out",
    Ended.LIMIT: "answer not complete: too long",
    Ended.CUT: "answer not complete: cut",
}


@dataclass(slots=True)
class SweepResult:
    """What one sweep found.

    :param outcomes: one for each node that was asked
    :param hops: nodes that were only passed through, with the key that was pinned at this first contact
    :param faults: of ours, not of nodes: logins that could not be used, by connection id (their nodes were not asked),
        and errors of EVC itself, by node
    """

    ts: int
    duration_s: float = 0.0
    outcomes: list[tuple[Node, Outcome]] = field(default_factory=list)
    hops: list[tuple[Node, str]] = field(default_factory=list)
    faults: dict[str, EvcError] = field(default_factory=dict)

    @property
    def failures(self) -> list[str]:
        """One line for each node without an answer."""
        return [outcome.failure for _, outcome in self.outcomes if outcome.failure]


@lru_cache(maxsize=64)
def _script(names: tuple[str, ...]) -> str:
    return build_script(PROBES[name] for name in names)


class Sweeper:
    """Sweeps nodes over a pool of sessions.

    :param timeout_s: for one node's answer; what came until then counts
    :param deadline_s: for everything that one node takes in one sweep, its jump nodes and second tries included
    :param concurrency: commands under way at the same time
    """

    def __init__(self, pool: Pool, *, timeout_s: float, deadline_s: float, concurrency: int = 250) -> None:
        self._deadline_s = deadline_s
        self._pinned: set[int] = set()
        self._pool = pool
        self._timeout_s = timeout_s
        self._places = asyncio.Semaphore(concurrency)

    async def sweep(
        self, nodes: Sequence[Node], registered: Mapping[str, Node], memories: Mapping[int, Memory], ts: int
    ) -> SweepResult:
        """Ask every node once; those that answered last time first, so that dead ones keep nobody waiting.

        :param registered: all nodes by name, for jump nodes
        :param memories: by node id; a node without one is asked everything
        """
        begun = time.monotonic()
        result = SweepResult(ts)
        order = sorted(nodes, key=lambda node: memories.get(node.id or 0, Memory()).missed_sweeps)
        async with asyncio.TaskGroup() as group:
            for node in order:
                group.create_task(self._turn(node, registered, memories.get(node.id or 0, Memory()), result))
        result.hops = self._passed(registered)
        result.duration_s = time.monotonic() - begun
        return result

    def _passed(self, registered: Mapping[str, Node]) -> list[tuple[Node, str]]:
        """Return the jump nodes whose key was pinned on the way to others, each once."""
        keys = self._pool.first_contacts
        passed = [node for node in registered.values() if node.id in keys.keys() - self._pinned]
        self._pinned |= {node.id for node in passed if node.id is not None}
        return [(node, keys[node.id]) for node in passed if node.id is not None and node.host_key is None]

    async def _turn(self, node: Node, registered: Mapping[str, Node], memory: Memory, result: SweepResult) -> None:
        begun = time.monotonic()
        try:
            outcome = await self._in_time(node, registered, memory, result.ts)
        except CredentialsError as error:
            result.faults[node.conn_id] = error
            return
        except Exception as error:  # noqa: BLE001  one node's answer must cost no other node its sample
            if not isinstance(error, NodeError):
                result.faults[node.name] = _ours(node, error)
                return
            kind = "host_key_changed" if isinstance(error, HostKeyChanged) else None
            outcome = silent(node, memory, str(error), kind=kind, ts=result.ts, duration_s=time.monotonic() - begun)
        result.outcomes.append((node, outcome))

    async def _in_time(self, node: Node, registered: Mapping[str, Node], memory: Memory, ts: int) -> Outcome:
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self.ask(node, registered, memory, ts)
        except TimeoutError:
            raise NodeTimeout(f"{node.name}: not done within the {self._deadline_s:g} s of a sweep") from None

    async def ask(self, node: Node, registered: Mapping[str, Node], memory: Memory, ts: int) -> Outcome:
        """Ask one node everything that is due.

        :raises NodeError: it did not answer as it should
        :raises CredentialsError: a login of ours is at fault
        """
        probes = due_probes(memory, ts, node.id or 0)
        command = _script(tuple(probe.name for probe in probes))
        session, is_new = await self._pool.session(node, registered, is_doubtful=memory.missed_sweeps > 0)
        try:
            reply, duration_s = await self._run(session, command)
        except ConnectionCut:
            if is_new:
                raise
            # a session kept from the last sweep may have died since (a reboot, a new address): one new try
            session, _ = await self._pool.session(node, registered)
            reply, duration_s = await self._run(session, command)
        outcome = self._read(node, memory, probes, reply, ts, duration_s)
        if node.host_key is None and node.id not in self._pinned:
            self._pinned.add(node.id or 0)
            outcome.node["host_key"] = session.host_key
            add_event(outcome, "host_key_pinned", "info", f"pinned {fingerprint(session.host_key)} at first contact")
        return outcome

    async def _run(self, session: Session, command: str) -> tuple[Reply, float]:
        async with self._places:
            begun = time.monotonic()
            try:
                reply = await session.run(command, timeout_s=self._timeout_s)
            except NodeError:
                await self._pool.discard(session.node)
                raise
            if reply.ended in (Ended.CUT, Ended.TIMEOUT) and not reply.stdout:
                await self._pool.discard(session.node)
                if reply.ended is Ended.CUT:
                    raise ConnectionCut(f"{session.node.name}: connection cut before an answer came")
                raise NodeTimeout(f"{session.node.name}: no answer within {self._timeout_s:g} s")
            return reply, time.monotonic() - begun

    @staticmethod
    def _read(node: Node, memory: Memory, probes: list[Probe], reply: Reply, ts: int, duration_s: float) -> Outcome:
        answer = parse_answer(reply.stdout, node.thermal_unit)
        if not answer.sections and not answer.outputs:
            raise NodeError(f"{node.name}: {_no_answer(reply)}")
        missing = _MISSING.get(reply.ended) or (None if answer.complete else "answer not complete")
        return answered(node, memory, answer, probes, ts=ts, duration_s=duration_s, missing=missing)


def _ours(node: Node, error: Exception) -> EvcError:
    """Return what the task fails with at its end: no other node loses its sample by it."""
    if isinstance(error, EvcError):
        return EvcError(f"{node.name}: {error}")
    log.error("%s: error of EVC itself", node.name, exc_info=error)
    return EvcError(f"{node.name}: error of EVC itself: {error!r:.200}")


def _no_answer(reply: Reply) -> str:
    if reply.status is not None:
        return f"answered without a single reading (exit status {reply.status}, {len(reply.stdout)} bytes)"
    return f"answered without a single reading ({reply.ended}, {len(reply.stdout)} bytes)"
