"""Which nodes a run of a scenario takes, from here on."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperator, Context

from evc.operators.conf import params_of
from evc.operators.dag_runs import rollout_key
from evc.operators.refusal import one_line


class SelectNodesOperator(BaseOperator):
    """Returns the names of the nodes that the run takes, and stores them with the scenario file as it is now: later
    tasks of the run go by that one.

    Reads ``model``, ``nodes``, ``groups`` and ``again`` from the run's params.

    :param file: name of the scenario file
    :param content: what it holds
    """

    def __init__(self, *, file: str, content: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.file, self.content = file, content

    def execute(self, context: Context) -> list[str]:
        """Return the names, sorted.

        :raises AirflowFailException: a node, group or earlier run that does not exist, or no node is chosen
        """
        from evc.hooks.scenarios import Begun, ScenarioHook

        with one_line():
            params = params_of(context)
            nodes, groups = tuple(params["nodes"] or ()), tuple(params["groups"] or ())
            given = Begun(rollout_key(context), params["model"], nodes, groups, params["again"] or None)
            return ScenarioHook(self.log).begin(self.file, self.content, given)
