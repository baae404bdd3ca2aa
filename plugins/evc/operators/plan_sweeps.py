"""Which nodes a run sweeps, cut into shards of which each becomes one task."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperator, Context

from evc.operators.refusal import one_line


class PlanSweepsOperator(BaseOperator):
    """Returns one dict for each shard: the arguments of ``SweepNodesOperator``; none where no node is registered.

    Reads ``nodes``, ``groups`` and ``sweeps`` from the run's params.
    """

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Return the shards.

        :raises AirflowFailException: a node or group that does not exist
        """
        from evc.hooks.fleet import FleetHook

        params = context["params"]
        nodes, groups = params["nodes"] or [], params["groups"] or []
        with one_line():
            plan = FleetHook(self.log).plan(nodes, groups)
        if not plan.shards:
            self.log.info("no node is registered: trigger register_node or import_inventory; nothing to sweep")
        else:
            self.log.info("%d nodes in %d task(s)", plan.nodes, plan.shards)
        sweeps = params["sweeps"] or (1 if nodes or groups else None)
        return [
            {"shard_index": index, "shard_count": plan.shards, "names": plan.names, "sweeps": sweeps}
            for index in range(plan.shards)
        ]
