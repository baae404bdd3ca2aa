"""Sightings of a scenario's nodes become identities. Imports NumPy: only who links pays for it."""

from __future__ import annotations

from evc.errors import ScenarioFailed
from evc.fleet.log import Log
from evc.fleet.scenarios import IdentityStep, read_scenario
from evc.hooks.metrics import checked_engine
from evc.hooks.scenarios import name_of
from evc.identities.link import Rules
from evc.inference.match import Matched, Order, match_identities
from evc.store.nodes import list_nodes
from evc.store.scenarios import find_scenario_run


class IdentitiesHook:
    """Links sightings; one object serves one task.

    :param log: the task's own log
    """

    def __init__(self, log: Log) -> None:
        self.log = log

    def match(self, file: str, content: str, key: str) -> Matched:
        """Link what the nodes of a scenario's run have seen and nobody has linked yet.

        :param key: DAG and id of the run
        :raises Stopped: another task links for this scenario; what this one has stored is whole
        """
        scenario = read_scenario(file, content.encode())
        engine = checked_engine()
        with engine.connect() as connection:
            run = find_scenario_run(connection, key)
            ids = {node.name: node.id for node in list_nodes(connection)}
        if run is None:
            raise ScenarioFailed("nothing was begun: the log of select says why")
        node_ids = [node_id for name in run.nodes if (node_id := ids.get(name)) is not None]
        rules = Rules(**(scenario.identities or IdentityStep()).model_dump())
        return match_identities(engine, Order(name_of(file), [run.model], node_ids, rules), self.log)
