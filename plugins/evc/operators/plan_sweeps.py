"""Which nodes a run sweeps, cut into shards of which each becomes one task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseOperator, Context

from evc.fleet.words import counted
from evc.operators.conf import params_of
from evc.operators.refusal import one_line


class PlanSweepsOperator(BaseOperator):
    """Returns one dict for each shard: the arguments of ``SweepNodesOperator``; none where no node is registered.

    Reads ``nodes``, ``groups`` and ``sweeps`` from the run's params.

    :param nodes: names of nodes, instead of the params ``nodes`` and ``groups``
    """

    template_fields: Sequence[str] = ("nodes",)

    def __init__(self, *, nodes: list[str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.nodes = nodes

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Return the shards.

        :raises AirflowFailException: a node or group that does not exist
        """
        from evc.hooks.fleet import FleetHook
        from evc.hooks.scenarios import still_registered

        with one_line():
            params = params_of(context)
            nodes = (params["nodes"] or []) if self.nodes is None else still_registered(self.nodes, self.log)
            groups = (params["groups"] or []) if self.nodes is None else []
            plan = FleetHook(self.log).plan(nodes, groups)
        if not plan.shards:
            self.log.info("no node is registered: trigger register_node or import_inventory; nothing to sweep")
        else:
            self.log.info("%s in %s", counted(plan.nodes, "node"), counted(plan.shards, "task"))
        sweeps = params["sweeps"] or (1 if nodes or groups else None)
        return [
            {"shard_index": index, "shard_count": plan.shards, "names": plan.names, "sweeps": sweeps}
            for index in range(plan.shards)
        ]
