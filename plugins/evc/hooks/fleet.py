"""What the operators do: settings, connections, sessions and the metrics database put together."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from evc.errors import DatabaseAway, DatabaseReadOnly, HostKeyChanged
from evc.fleet.log import Log
from evc.fleet.nodes import Node, check_free, jump_path, make_node, quote, select, without_name
from evc.fleet.settings import Settings
from evc.fleet.ticks import Ticks
from evc.fleet.words import counted
from evc.hooks.inventory import import_nodes, read_inventory, write_inventory
from evc.hooks.metrics import MetricsHook
from evc.hooks.nodes import NodesHook
from evc.hooks.settings import hosts_ini, settings, state_folder
from evc.places import gazetteer
from evc.places.locate import Located, locate
from evc.places.nominatim import Nominatim
from evc.places.pace import Pace
from evc.places.place import Place
from evc.ssh.session import fingerprint
from evc.store.database import check_schema
from evc.store.events import event_rows, record_event
from evc.store.geocodes import Geocode, find_geocode, store_geocode
from evc.store.nodes import find_node, list_nodes, nodes_to_locate, set_location, store_node
from evc.store.spool import Spool
from evc.store.sweeps import recorded_sweeps
from evc.store.writer import Batch, write
from evc.sweep.contact import first_contact, with_id
from evc.sweep.depot import Depot
from evc.sweep.run import Collection, Job, Report, Shard

SPOOL_FOLDER = "spool"


@dataclass(frozen=True, slots=True)
class Plan:
    """How a run of collect_telemetry is cut into tasks.

    :param names: None means every registered node, those registered while the run goes on included
    :param shards: how many tasks; 0 where there is no node
    """

    names: list[str] | None
    nodes: int
    shards: int


class FleetHook:
    """Opens what a task needs when it needs it; one object serves one task.

    :param log: the task's own log
    """

    def __init__(self, log: Log) -> None:
        self.log = log
        self.settings: Settings = settings()
        self.folder: Path = state_folder(self.settings)
        self.nodes_hook = NodesHook()
        self._engine: Engine | None = None
        self._collection: Collection | None = None

    @property
    def engine(self) -> Engine:
        """The metrics database."""
        if self._engine is None:
            self._engine = MetricsHook().engine
        return self._engine

    def nodes(self) -> list[Node]:
        """Return every registered node.

        :raises DatabaseError: away, or of another version
        """
        check_schema(self.engine)
        with self.engine.connect() as connection:
            return list_nodes(connection)

    # -- telemetry ---------------------------------------------------------------------------------------------------

    def plan(self, names: Iterable[str], groups: Iterable[str]) -> Plan:
        """Cut the selected nodes into shards.

        :raises InputError: a name or a group that no node has
        """
        depot = self._depot()
        depot.open()
        selected = select(depot.nodes, names, groups)
        everything = len(selected) == len(depot.nodes)
        return Plan(
            None if everything else sorted(node.name for node in selected),
            len(selected),
            math.ceil(len(selected) / self.settings.nodes_per_task),
        )

    def sweep(self, run_id: str, shard: Shard, names: list[str] | None, start_ts: float, sweeps: int | None) -> Report:
        """Keep the ticks of a run for one shard.

        :param start_ts: where a scheduled run's window begins, unix seconds
        :param sweeps: for a one-off run: so many from now on, less those that an earlier try of this task did
        """
        done = self._done(run_id, shard)
        if done:
            self.log.info("an earlier try of this task did %d sweeps", len(done))
        ticks = self._window(start_ts) if sweeps is None else self._from_now(sweeps, done)
        job = Job(run_id, ticks, shard, None if names is None else frozenset(names), done, sweeps is not None)
        depot = self._depot()
        self._collection = Collection(
            job,
            depot,
            self.nodes_hook.credentials,
            connect_timeout_s=self.settings.connect_timeout_s,
            sweep_timeout_s=self.settings.sweep_timeout_s,
            log=self.log,
        )
        return asyncio.run(self._collection.run())

    def stop(self) -> None:
        """End the sweeps under way, if there are any; what was swept is written."""
        if self._collection:
            self._collection.stop()

    def _window(self, start_ts: float) -> Ticks:
        return Ticks.of_window(int(start_ts), self.settings.sweep_window_s, self.settings.sweep_interval_s)

    def _from_now(self, sweeps: int, done: frozenset[int]) -> Ticks:
        start_ts = max(int(time.time()), max(done, default=0) + 1)
        return Ticks(start_ts, self.settings.sweep_interval_s, max(sweeps - len(done), 0))

    def _done(self, run_id: str, shard: Shard) -> frozenset[int]:
        """Return the ticks that an earlier try kept; none where the database is away: a tick kept twice is one row."""
        try:
            with self.engine.connect() as connection:
                return recorded_sweeps(connection, run_id, shard.index)
        except (DatabaseAway, DatabaseReadOnly):
            return frozenset()

    def _depot(self) -> Depot:
        spool = Spool(self.folder / SPOOL_FOLDER, self.settings.spool_max_bytes)
        return Depot(self.engine, spool, self.folder, self.log, on_pinned=self.publish)

    # -- registration ------------------------------------------------------------------------------------------------

    def register(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Contact a node, store it with its facts and first sample, and write hosts.ini.

        A node that is registered already, by the same name and address, is contacted and stored anew.

        :param given: as in :class:`~evc.fleet.nodes.Node`
        :raises InputError: a bad value, or a name or address that another node has; nothing was contacted
        :raises NodeError: the node did not answer as it should; nothing was stored
        """
        node = make_node(given)
        registered = {known.name: known for known in self.nodes()}
        known = registered.get(node.name)
        check_free(node, registered)
        jump_path(node, {**registered, node.name: node})
        if known and node.host_key is None:
            node = replace(node, host_key=known.host_key)
        outcome = self._contact(node, known, registered)
        node = replace(node, host_key=str(outcome.node.pop("host_key", None) or node.host_key))
        self.log.info("%s: answers; host key %s", node.name, fingerprint(str(node.host_key)))
        node_id, created = self._store(node, known, key_was_given="host_key" in given and bool(given["host_key"]))
        with_id(outcome, node_id)
        write(self.engine, Batch(outcome.rows, [{**outcome.node, "status": "up"}]))
        facts = (str(outcome.node[name]) for name in ("board_model", "arch", "os", "kernel") if outcome.node.get(name))
        self.log.info("%s: %s", node.name, ", ".join(facts))
        done = "registered" if created else "was registered, renewed"
        self.log.info("%s: %s as node %d", node.name, done, node_id)
        self.publish()
        return {"name": node.name, "id": node_id, "created": created}

    def _store(self, node: Node, known: Node | None, *, key_was_given: bool) -> tuple[int, bool]:
        ts = int(time.time())
        with self.engine.begin() as connection:
            # a sweep may have pinned a key since the node was looked up
            now = find_node(connection, node.name)
            if now and now.host_key not in (None, node.host_key) and not key_was_given:
                raise HostKeyChanged(node.name, fingerprint(str(now.host_key)), fingerprint(str(node.host_key)))
            node_id, created = store_node(connection, node, ts)
            if known and known.host_key not in (None, node.host_key):
                message = f"{fingerprint(str(known.host_key))} replaced by the key that was given"
                record_event(connection, node_id, "host_key_replaced", "warning", message, ts)
        return node_id, created

    def _contact(self, node: Node, known: Node | None, registered: Mapping[str, Node]) -> Any:
        try:
            return asyncio.run(
                first_contact(
                    node,
                    registered,
                    self.nodes_hook.credentials,
                    connect_timeout_s=self.settings.connect_timeout_s,
                    sweep_timeout_s=self.settings.sweep_timeout_s,
                )
            )
        except HostKeyChanged as error:
            if known and known.id is not None:
                message = without_name(node.name, str(error))
                with self.engine.begin() as connection:
                    record_event(connection, known.id, "host_key_changed", "error", message, int(time.time()))
            raise

    def publish(self) -> Path:
        """Write hosts.ini from the nodes table. Returns its path."""
        path = hosts_ini(self.settings)
        count = write_inventory(path, self.nodes, self.nodes_hook.load)
        self.log.info("%s: %s", path, counted(count, "node"))
        return path

    def import_inventory(self, path: str) -> dict[str, int]:
        """Store the nodes of an existing inventory; what can't be imported is logged, a line each.

        :raises InputError: the path leads to no inventory
        """
        imported = read_inventory(Path(path))
        with self.engine.begin() as connection:
            outcome = import_nodes(connection, imported, int(time.time()))
        outcome.refused = [*imported.refused, *outcome.refused]
        for line in outcome.refused:
            self.log.warning("not imported: %s", line)
        for line in imported.problems:
            self.log.warning("%s", line)
        self.publish()
        counts = {name: len(getattr(outcome, name)) for name in ("added", "changed", "unchanged", "refused")}
        self.log.info("%s: %s", path, ", ".join(f"{count} {name}" for name, count in counts.items()))
        return counts

    def locate(self, name: str | None = None) -> dict[str, int]:
        """Find nodes' addresses on the map; returns how many addresses each source answered, and how many nobody did.

        :param name: only this node; None means all that have an address but no exact place
        """
        with self.engine.connect() as connection:
            wanted = [node for node in nodes_to_locate(connection) if name in (None, node.name)]
        counts = dict.fromkeys(("nominatim", "gazetteer", "unknown"), 0)
        answers = locate(
            [node.address for node in wanted if node.address],
            self._known_geocode,
            self._nominatim(),
            gazetteer.find,
            now_ts=int(time.time()),
            log=self.log,
        )
        for located in answers:
            self._place([node for node in wanted if node.address == located.address], located)
            counts[located.place.source if located.place else "unknown"] += 1
        self.log.info(
            "%s: %s",
            counted(sum(counts.values()), "address"),
            ", ".join(f"{count} {name}" for name, count in counts.items()),
        )
        return counts

    def _nominatim(self) -> Callable[[str], Place | None] | None:
        if not self.settings.nominatim_url:
            self.log.info("[evc] nominatim_url is empty: offline gazetteer only")
            return None
        return Nominatim(self.settings.nominatim_url, Pace(self.folder / "nominatim.pace")).find

    def _known_geocode(self, address: str) -> Geocode | None:
        with self.engine.connect() as connection:
            return find_geocode(connection, address)

    def _place(self, nodes: list[Node], located: Located) -> None:
        """Keep one answer for the nodes at that address; where nobody knows it, say so once in each node's events."""
        place, ts = located.place, int(time.time())
        with self.engine.begin() as connection:
            if place and located.fresh:
                store_geocode(connection, located.address, place.latitude, place.longitude, place.source, ts)
            for node in nodes:
                if node.id is None:
                    continue
                if place:
                    set_location(connection, node.id, place.latitude, place.longitude, place.source)
                elif not event_rows(connection, node=node.name, kind="not_located", limit=1):
                    message = f"nobody knows the address {quote(located.address)}"
                    record_event(connection, node.id, "not_located", "warning", message, ts)
        names = ", ".join(node.name for node in nodes)
        if place:
            detail = f" ({place.precision} {place.name})" if place.name else ""
            self.log.info("%s: %.4f, %.4f from %s%s", names, place.latitude, place.longitude, place.source, detail)
        else:
            self.log.warning("%s: nobody knows the address %s", names, quote(located.address))
