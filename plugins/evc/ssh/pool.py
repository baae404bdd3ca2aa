"""Sessions that stay open from sweep to sweep, jump nodes included."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from evc.errors import InputError, NodeError, NodeUnreachable
from evc.fleet.nodes import Node, jump_path
from evc.ssh.credentials import Credentials
from evc.ssh.session import Session, open_session

CredentialsOf = Callable[[str], Credentials]
"""Returns the credentials of a connection id, or raises ``CredentialsError``."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much happens at once.

    :param openings: connections being opened; a host that does not answer holds its place until the time-out
    :param doubtful: the same for nodes that did not answer last time, so that they keep no place of the others
    :param exchanges: key exchanges among them; each costs milliseconds of processor time
    """

    openings: int = 250
    doubtful: int = 1000
    exchanges: int = 20


class Pool:
    """Opens a session to a node when it is first asked for, and keeps it.

    :param credentials_of: raises ``CredentialsError``, which reaches the caller of :meth:`session`
    :param connect_timeout_s: for TCP up to the first byte, and again for key exchange and login

    ``first_contacts`` holds the keys, by node id, of nodes that had none pinned: as long as the pool lives they count
    as pinned, whatever becomes of the database meanwhile.
    """

    def __init__(
        self, credentials_of: CredentialsOf, *, connect_timeout_s: float, limits: Limits | None = None
    ) -> None:
        limits = limits or Limits()
        self._credentials_of = credentials_of
        self._timeout_s = connect_timeout_s
        self._openings = asyncio.Semaphore(limits.openings)
        self._doubtful = asyncio.Semaphore(limits.doubtful)
        self._exchanges = asyncio.Semaphore(limits.exchanges)
        self._sessions: dict[str, Session] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._hop_locks: dict[str, asyncio.Lock] = {}
        self._hop_failures: dict[str, tuple[float, NodeError]] = {}
        self.first_contacts: dict[int, str] = {}

    async def session(
        self, node: Node, nodes: Mapping[str, Node], *, is_doubtful: bool = False
    ) -> tuple[Session, bool]:
        """Return an open session to ``node`` and whether it was opened just now.

        :param nodes: all registered nodes by name, for the way through jump nodes
        :param is_doubtful: it did not answer last time
        :raises NodeError: it, or a node on the way, did not answer as it should
        :raises CredentialsError: a login of ours is at fault
        """
        try:
            path = jump_path(node, nodes)
        except InputError as error:
            raise NodeUnreachable(f"{node.name}: {error}") from None
        via: Session | None = None
        for hop in path:
            via = await self._hop(node, hop, via)
        return await self._open(node, via, self._doubtful if is_doubtful else self._openings)

    async def _hop(self, node: Node, hop: Node, via: Session | None) -> Session:
        """Return the session to a jump node; one that has just failed is not tried again for each node behind it."""
        now = asyncio.get_running_loop().time()
        async with self._hop_locks.setdefault(hop.name, asyncio.Lock()):
            failed_at, failure = self._hop_failures.get(hop.name, (0.0, None))
            if failure is None or now > failed_at:
                try:
                    return (await self._open(hop, via, self._openings))[0]
                except NodeError as error:
                    failure = error
                    self._hop_failures[hop.name] = (asyncio.get_running_loop().time(), error)
        raise NodeUnreachable(f"{node.name}: jump node {failure}")

    async def _open(self, node: Node, via: Session | None, places: asyncio.Semaphore) -> tuple[Session, bool]:
        pinned = node.host_key or self.first_contacts.get(node.id or 0)
        node = replace(node, host_key=pinned)
        # one lock a node: it may be a jump node that others ask for at the same time
        async with self._locks.setdefault(node.name, asyncio.Lock()):
            known = self._sessions.get(node.name)
            if known and _still_serves(known, node):
                return known, False
            await self.discard(node)
            credentials = self._credentials_of(node.conn_id)
            async with places:
                session = await open_session(
                    node, credentials, timeout_s=self._timeout_s, exchanges=self._exchanges, via=via
                )
            self._sessions[node.name] = session
            if pinned is None:
                self.first_contacts[node.id or 0] = session.host_key
            return session, True

    async def discard(self, node: Node) -> None:
        """Close the session to ``node``, if there is one."""
        session = self._sessions.pop(node.name, None)
        if session:
            await session.close()

    async def keep_only(self, names: set[str]) -> None:
        """Close the sessions to nodes that are not in ``names`` (removed since the last sweep)."""
        for name in self._sessions.keys() - names:
            await self.discard(self._sessions[name].node)

    async def close(self) -> None:
        """Close every session."""
        sessions, self._sessions = list(self._sessions.values()), {}
        await asyncio.gather(*(session.close() for session in sessions))


def _still_serves(session: Session, node: Node) -> bool:
    """Whether an open session leads to what ``node`` describes now: it may have been registered anew meanwhile."""

    def way(of: Node) -> tuple[object, ...]:
        return (of.id, of.host, of.port, of.user, of.conn_id, of.jump_node)

    return session.is_open and way(session.node) == way(node) and node.host_key in (None, session.host_key)
