"""The metrics database as one task sees it: nodes to read, batches to write, and a spool while it is away."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from sqlalchemy import Engine

from evc.errors import DatabaseAway, DatabaseError, DatabaseReadOnly, SpoolError
from evc.fleet.log import Log
from evc.fleet.nodes import Node
from evc.store.database import check_schema
from evc.store.nodes import list_nodes
from evc.store.spool import Spool
from evc.store.writer import Batch, readings, write
from evc.sweep.reading import Memory

NODES_SNAPSHOT = "nodes.json"


class Depot:
    """The metrics database as one task sees it: reads the nodes, writes batches, spools while it is away.

    :param on_pinned: called after host keys that a sweep pinned were written
    """

    def __init__(
        self,
        engine: Engine,
        spool: Spool,
        state_folder: Path,
        log: Log,
        on_pinned: Callable[[], object] = lambda: None,
    ) -> None:
        self._engine = engine
        self._spool = spool
        self._snapshot = state_folder / NODES_SNAPSHOT
        self._log = log
        self._on_pinned = on_pinned
        self.nodes: list[Node] = []
        self.away: DatabaseError | None = None
        self._held: list[Batch] = []

    def open(self) -> dict[int, Memory]:
        """Read nodes and memories; where the database is away, the nodes as they were last known.

        :raises DatabaseError: another version's schema, or away and no node was ever known
        """
        try:
            check_schema(self._engine)
            with self._engine.connect() as connection:
                self.nodes = list_nodes(connection)
                memories = {key: Memory.from_row(row) for key, row in readings(connection).items()}
        except (DatabaseAway, DatabaseReadOnly) as error:
            self.away = error
            self.nodes = self._last_known(error)
            return {node.id: Memory.assumed_up() for node in self.nodes if node.id is not None}
        self._remember_nodes()
        return memories

    def store(self, batch: Batch) -> bool:
        """Write ``batch`` and then what waits; where that can't be, keep it on disk, or in memory where that is full.

        Returns whether it was written.
        """
        self._held.append(batch)
        try:
            while self._held:
                write(self._engine, self._held[0])
                del self._held[0]
            self.drain()
            self._refresh_nodes()
        except (DatabaseAway, DatabaseReadOnly) as error:
            self.away = error
            self._to_spool()
            waiting = self._spool.waiting()
            self._log.warning("%s; %d batches (%d kB) wait in the spool", error, waiting.batches, waiting.bytes // 1000)
            return False
        self.away = None
        if any("host_key" in node for node in batch.nodes):
            self._on_pinned()
        return True

    def _to_spool(self) -> None:
        try:
            while self._held:
                self._spool.put(self._held[0])
                del self._held[0]
        except SpoolError as error:
            self._log.error("%s; %d batches are held in memory only", error, len(self._held))

    def raise_if_unwritten(self) -> None:
        """Say at the end what is not in the database.

        :raises SpoolError: neither database nor disk took it: it is lost
        :raises DatabaseAway: it waits in the spool
        """
        if self._held:
            self._to_spool()
        if self._held:
            raise SpoolError(f"{len(self._held)} sweeps are lost: neither database nor spool took them ({self.away})")
        if self.away:
            waiting = self._spool.waiting().batches
            raise DatabaseAway(f"{self.away}; {waiting} batches wait in the spool and are written when it is back")

    def drain(self) -> int:
        """Write what waits in the spool, oldest first; returns how many batches."""
        written = self._spool.drain(lambda batch: write(self._engine, batch))
        if written:
            self._log.info("wrote %d batches that had waited in the spool", written)
        return written

    def _refresh_nodes(self) -> None:
        with self._engine.connect() as connection:
            nodes = list_nodes(connection)
        if nodes != self.nodes:
            self.nodes = nodes
            self._remember_nodes()

    def _remember_nodes(self) -> None:
        """Keep the list for a start while the database is away. It holds no secret: public keys and ids only."""
        text = json.dumps([{**asdict(node), "labels": dict(node.labels)} for node in self.nodes])
        temporary = self._snapshot.with_suffix(f".{id(self)}.tmp")
        try:
            self._snapshot.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self._snapshot)
        except OSError as error:
            self._log.warning(
                "%s: %s; without it no sweep can begin while the database is away", self._snapshot, error.strerror
            )

    def _last_known(self, error: DatabaseError) -> list[Node]:
        try:
            known = json.loads(self._snapshot.read_text(encoding="utf-8"))
            nodes = [Node(**{**item, "groups": tuple(item["groups"])}) for item in known]
        except (OSError, ValueError, TypeError, KeyError):
            raise error from None
        self._log.warning("%s; sweeping the %d nodes last known, samples go to the spool", error, len(nodes))
        return nodes
