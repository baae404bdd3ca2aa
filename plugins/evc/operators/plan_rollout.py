"""What a roll-out will do: checked, stored, cut into waves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException

from evc.operators.conf import params_of
from evc.operators.dag_runs import is_over, rollout_key
from evc.operators.later import look_again
from evc.operators.refusal import one_line

WAIT_S = 30


class PlanRolloutOperator(BaseOperator):
    """Returns the names of the first wave's nodes.

    Refuses whatever makes no sense before a node is touched. Where another roll-out of the model is not finished, it
    refuses too or waits for its end, as the param ``if_busy`` says. A retry finds what the first try stored.
    Reads the run's params; what is given here counts instead of the param of that name.

    :param nodes: names of nodes
    :param digest: of the image
    """

    template_fields: Sequence[str] = ("nodes", "digest")

    def __init__(self, *, nodes: list[str] | None = None, digest: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.nodes, self.digest = nodes, digest

    def execute(self, context: Context) -> list[str]:
        """Return the first wave.

        :raises AirflowFailException: unknown model, image, node or group, an empty selection, waves or thresholds that
            make no sense, another roll-out of the model
        """
        from evc.hooks.rollouts import Busy, RolloutHook
        from evc.hooks.scenarios import still_registered

        with one_line():
            params = params_of(context)
            if self.nodes is not None:
                params |= {"nodes": still_registered(self.nodes, self.log), "groups": []}
            if self.digest is not None:
                params |= {"tag": None, "digest": self.digest}
            planned = RolloutHook(self.log).plan(rollout_key(context), params, is_over)
        if not isinstance(planned, Busy):
            return planned
        if params["if_busy"] == "wait":
            self.log.info("%s; next look in %d s", planned.message, WAIT_S)
            look_again(WAIT_S)
        self.log.error("%s", planned.message)
        raise AirflowFailException(planned.message)
