"""Removal of one node."""

from __future__ import annotations

from airflow.sdk import BaseOperator, Context

from evc.operators.refusal import one_line


class RemoveNodeOperator(BaseOperator):
    """Takes the node named in the run's params out of the fleet and of hosts.ini; its history stays."""

    def execute(self, context: Context) -> int:
        """Return the node's id.

        :raises AirflowFailException: no such node, or others are reached through it
        """
        from evc.hooks.fleet import FleetHook

        params = context["params"]
        with one_line():
            return FleetHook(self.log).remove(params["name"], params["force"])
