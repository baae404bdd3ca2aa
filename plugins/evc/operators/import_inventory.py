"""Nodes from an Ansible inventory."""

from __future__ import annotations

from airflow.sdk import BaseOperator, Context

from evc.operators.conf import params_of
from evc.operators.refusal import one_line


class ImportInventoryOperator(BaseOperator):
    """Stores the nodes of the inventory at the run's param ``path``; what can't be imported is listed in the log.

    Nodes are not contacted: the next sweep pins their host keys and reads their facts.
    """

    def execute(self, context: Context) -> dict[str, int]:
        """Return how many nodes were ``added``, ``unchanged`` and ``refused``.

        :raises AirflowFailException: the path, or the file, is not an inventory
        """
        from evc.hooks.fleet import FleetHook

        with one_line():
            return FleetHook(self.log).import_inventory(params_of(context)["path"])
