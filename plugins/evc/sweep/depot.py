"""The metrics database as one task sees it: nodes to read, batches to write, and a spool while it is away."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from evc.errors import DatabaseAway, DatabaseError, DatabaseReadOnly, EvcError, InputError, SpoolError
from evc.fleet.log import Log
from evc.fleet.nodes import Node, make_node
from evc.fleet.words import counted
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
        self._pinned: dict[int, str] = {}
        self._new_memories: dict[int, Memory] = {}
        self._held: list[Batch] = []
        self._has_pinned = False

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
                self._write(self._held[0])
                del self._held[0]
            self.drain()
            self._refresh_nodes()
        except DatabaseError as error:
            # also a refused login or a missing table: someone may mend it before the run ends, when it fails with this
            self.away = error
            self._to_spool()
            self._log.warning("%s; %s", error, self._what_waits())
            return False
        self.away = None
        self._tell_pinned()
        return True

    def _write(self, batch: Batch) -> None:
        write(self._engine, batch)
        self._has_pinned |= any("host_key" in node for node in batch.nodes)

    def _tell_pinned(self) -> None:
        if self._has_pinned:
            self._has_pinned = False
            try:
                self._on_pinned()
            except EvcError as error:
                self._log.error("%s", error)  # hosts.ini is written again at the next change; sweeps do not need it

    def pin(self, keys: Mapping[int, str]) -> None:
        """Take the host keys of first contacts, by node id, as pinned from now on, also while the database is away."""
        if keys.keys() - self._pinned.keys():
            self._pinned.update(keys)
            self._set_nodes(self.nodes)

    def take_memories(self) -> dict[int, Memory]:
        """Return once what is remembered of nodes that were registered while the run goes on."""
        taken, self._new_memories = self._new_memories, {}
        return taken

    def _what_waits(self) -> str:
        try:
            waiting = self._spool.waiting()
        except SpoolError as error:
            return str(error)
        return f"{waiting.batches} batches ({waiting.bytes // 1000} kB) wait in the spool"

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
            raise DatabaseAway(f"{self.away}; {self._what_waits()} and are written when it is back")

    def drain(self) -> int:
        """Write what waits in the spool, oldest first; returns how many batches."""
        try:
            written = self._spool.drain(self._write)
        except SpoolError as error:
            self._log.error("%s; what waits there stays", error)
            return 0
        if written:
            self._log.info("wrote %d batches that had waited in the spool", written)
        return written

    def _refresh_nodes(self) -> None:
        with self._engine.connect() as connection:
            nodes = list_nodes(connection)
            if {node.id for node in nodes} - {node.id for node in self.nodes}:
                self._new_memories = {key: Memory.from_row(row) for key, row in readings(connection).items()}
        self._set_nodes(nodes)

    def _set_nodes(self, nodes: list[Node]) -> None:
        nodes = [
            replace(node, host_key=self._pinned.get(node.id or 0)) if node.host_key is None else node for node in nodes
        ]
        if nodes != self.nodes:
            self.nodes = nodes
            self._remember_nodes()

    def _remember_nodes(self) -> None:
        """Keep the list for a start while the database is away. It holds no secret: public keys and ids only."""
        text = json.dumps([{"id": node.id, "node": _given(node)} for node in self.nodes])
        temporary = self._snapshot.with_suffix(f".{os.getpid()}.tmp")
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
            nodes = [replace(make_node(item["node"]), id=int(item["id"])) for item in known]
        except (OSError, ValueError, TypeError, KeyError, RecursionError, InputError):
            raise error from None
        self._log.warning("%s; sweeping the %s last known, samples go to the spool", error, counted(len(nodes), "node"))
        return nodes


def _given(node: Node) -> dict[str, Any]:
    """Return what ``make_node`` takes."""
    given = asdict(replace(node, labels=dict(node.labels)))
    del given["id"]
    return given
