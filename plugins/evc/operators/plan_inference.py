"""Which nodes a run of inference takes, and which image on each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseOperator, Context

from evc.operators.conf import params_of
from evc.operators.refusal import one_line
from evc.operators.run_inference import wanted_of


class PlanInferenceOperator(BaseOperator):
    """Checks the run's params and returns one dict for each node: the arguments of ``RunInferenceOperator``.

    Reads ``model``, ``tag``, ``digest``, ``nodes``, ``groups``, ``input``, ``limit`` and ``timeout_s``; what is given
    here counts instead of the param of that name.

    :param nodes: names of nodes
    :param digest: of the image
    """

    template_fields: Sequence[str] = ("nodes", "digest")

    def __init__(self, *, nodes: list[str] | None = None, digest: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.nodes, self.digest = nodes, digest

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Return ``node`` and ``digest`` of each.

        :raises AirflowFailException: unknown model, node, group, tag or digest; not deployed; an input it does not take
        """
        from evc.hooks.inference import InferenceHook
        from evc.hooks.scenarios import still_registered

        with one_line():
            params = params_of(context)
            if self.nodes is not None:
                params |= {"nodes": still_registered(self.nodes, self.log), "groups": []}
            if self.digest is not None:
                params |= {"tag": None, "digest": self.digest}
            plan = InferenceHook(self.log).plan(wanted_of(params))
        for each in plan:
            self.log.info("%s: %s", each["node"], each["digest"])
        return plan
