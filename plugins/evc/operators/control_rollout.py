"""What a person asks of a roll-out that goes on."""

from __future__ import annotations

from airflow.sdk import BaseOperator, Context

from evc.operators.conf import params_of
from evc.operators.refusal import one_line


class ControlRolloutOperator(BaseOperator):
    """Pauses, resumes or aborts the roll-out that the run's params name, by its id or its model."""

    def execute(self, context: Context) -> str:
        """Return what was done, on one line.

        :raises AirflowFailException: there is no such roll-out, or it is over
        """
        from evc.hooks.rollouts import RolloutHook

        with one_line():
            params = params_of(context)
            return RolloutHook(self.log).control(params["rollout"], params["model"], params["action"])
