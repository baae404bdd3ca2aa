"""Which nodes a run of inference takes, and which image on each."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperator, Context

from evc.operators.refusal import one_line
from evc.operators.run_inference import wanted_of


class PlanInferenceOperator(BaseOperator):
    """Checks the run's params and returns one dict for each node: the arguments of ``RunInferenceOperator``.

    Reads ``model``, ``tag``, ``digest``, ``nodes``, ``groups``, ``input``, ``limit`` and ``timeout_s``.
    """

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Return ``node`` and ``digest`` of each.

        :raises AirflowFailException: unknown model, node, group, tag or digest; not deployed; an input it does not take
        """
        from evc.hooks.inference import InferenceHook

        with one_line():
            plan = InferenceHook(self.log).plan(wanted_of(context["params"]))
        for each in plan:
            self.log.info("%s: %s", each["node"], each["digest"])
        return plan
