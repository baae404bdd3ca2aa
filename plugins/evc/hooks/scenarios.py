"""Runs of scenarios: which nodes they take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

from sqlalchemy import Engine

from evc.errors import InputError
from evc.fleet.log import Log
from evc.fleet.nodes import select
from evc.hooks.metrics import checked_engine
from evc.store.nodes import list_nodes


class ScenarioHook:
    """Looks up what a run of a scenario takes; one object serves one task.

    :param log: the task's own log
    """

    def __init__(self, log: Log) -> None:
        self.log = log

    @cached_property
    def engine(self) -> Engine:
        """The metrics database. :raises DatabaseError: away, or of another version"""
        return checked_engine()

    def select(self, names: Iterable[str], groups: Iterable[str], labels: Mapping[str, str]) -> list[str]:
        """Return the names of the chosen nodes, sorted.

        :raises InputError: a name or group that no node has, labels that none bears, or there is no node at all
        """
        with self.engine.connect() as connection:
            chosen = select(list_nodes(connection), names, groups, labels)
        if not chosen:
            raise InputError("nodes", "no node is registered", "nodes that register_node or import_inventory made")
        return sorted(node.name for node in chosen)
