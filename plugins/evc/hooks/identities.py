"""Sightings of a scenario's nodes become identities. Imports NumPy: only who links pays for it."""

from __future__ import annotations

from evc.errors import ScenarioFailed
from evc.fleet.log import Log
from evc.hooks.metrics import checked_engine
from evc.hooks.scenarios import scenario_of
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

    def match(self, key: str) -> Matched:
        """Link what the nodes of a scenario's run have seen and nobody has linked yet, by the file as the run began.

        :param key: DAG and id of the run
        :raises Stopped: another task links for this scenario; what this one has stored is whole
        """
        engine = checked_engine()
        with engine.connect() as connection:
            run = find_scenario_run(connection, key)
            ids = {node.name: node.id for node in list_nodes(connection)}
        if run is None:
            raise ScenarioFailed("nothing was begun: the log of select says why")
        step = scenario_of(run).identities
        if step is None:
            raise ScenarioFailed(f"{run.scenario}: the run began without identities; trigger a new one")
        node_ids = [node_id for name in run.nodes if (node_id := ids.get(name)) is not None]
        rules = Rules(**step.model_dump())
        return match_identities(engine, Order(run.scenario, [run.model], node_ids, rules), self.log)
