"""Which nodes a run of a scenario takes, from here on."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperator, Context

from evc.operators.conf import params_of
from evc.operators.refusal import one_line


class SelectNodesOperator(BaseOperator):
    """Returns the names of the nodes that the run's params ``nodes`` and ``groups`` choose.

    :param labels: of these only the nodes that bear all of these
    """

    def __init__(self, *, labels: dict[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.labels = labels or {}

    def execute(self, context: Context) -> list[str]:
        """Return the names, sorted.

        :raises AirflowFailException: a node or group that does not exist, or no node is chosen
        """
        from evc.hooks.scenarios import ScenarioHook

        with one_line():
            params = params_of(context)
            names = ScenarioHook(self.log).select(params["nodes"] or [], params["groups"] or [], self.labels)
        self.log.info("%d nodes: %s", len(names), ", ".join(names))
        return names
