"""What a roll-out will do: checked, stored, cut into waves."""

from __future__ import annotations

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException

from evc.operators.dag_runs import is_over
from evc.operators.later import look_again
from evc.operators.refusal import one_line

WAIT_S = 30


class PlanRolloutOperator(BaseOperator):
    """Returns the names of the first wave's nodes.

    Refuses whatever makes no sense before a node is touched. Where another roll-out of the model is not finished, it
    refuses too or waits for its end, as the param ``if_busy`` says. A retry finds what the first try stored.
    """

    def execute(self, context: Context) -> list[str]:
        """Return the first wave.

        :raises AirflowFailException: unknown model, image, node or group, an empty selection, waves or thresholds that
            make no sense, another roll-out of the model
        """
        from evc.hooks.rollouts import Busy, RolloutHook

        params, run_id = context["params"], context["dag_run"].run_id
        with one_line():
            planned = RolloutHook(self.log).plan(run_id, dict(params), is_over)
        if not isinstance(planned, Busy):
            return planned
        if params["if_busy"] == "wait":
            self.log.info("%s; next look in %d s", planned.message, WAIT_S)
            look_again(WAIT_S)
        self.log.error("%s", planned.message)
        raise AirflowFailException(planned.message)
