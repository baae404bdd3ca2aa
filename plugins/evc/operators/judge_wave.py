"""The gate after a wave: on to the next one, wait, go back, or give up; where asked for, a person says yes first."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.sdk import Context

from evc.operators.later import look_again
from evc.operators.refusal import one_line

WAIT_S = 20


class JudgeWaveOperator(ApprovalOperator):
    """Returns the names of the next wave's nodes, and skips the waves that this roll-out does not have.

    With the param ``approval`` it asks before the next wave, and goes on when a person approves: under Required actions
    in the UI, or over the REST API. A rejection aborts the roll-out.

    :param wave: which one to judge, from 0
    """

    def __init__(self, *, wave: int, **kwargs: Any) -> None:
        super().__init__(
            subject="Go on with wave {{ task.wave + 2 }} of {{ params.model }}"
            "{% if params.tag %}:{{ params.tag }}{% endif %}?",
            body="What became of the waves so far: the log of this task, the table `rollout_nodes`, `evc rollouts`. "
            "Reject: the roll-out ends; nodes that have the new image keep it.",
            **kwargs,
        )
        self.wave = wave

    def execute(self, context: Context) -> list[str] | None:
        """Return the next wave.

        :raises AirflowFailException: the roll-out ends here
        """
        nodes = self._judge(context)
        if nodes and context["params"]["approval"]:
            self.log.info("the next wave waits for an approval: Required actions in the UI")
            super().execute(context)  # comes back in execute_complete
        return nodes

    def execute_complete(self, context: Context, event: dict[str, Any]) -> list[str] | None:
        """Return the next wave where it was approved.

        :raises AirflowFailException: it was not; or the roll-out ended meanwhile
        """
        from evc.hooks.rollouts import RolloutHook

        answer = HITLOperator.execute_complete(self, context, event)
        if answer["chosen_options"] == [self.APPROVE]:
            return self._judge(context)
        who = answer["responded_by_user"]
        with one_line():
            RolloutHook(self.log).reject(context["dag_run"].run_id, self.wave + 1, who["name"] if who else "someone")
        return None

    def _judge(self, context: Context) -> list[str] | None:
        from evc.hooks.rollouts import RolloutHook

        with one_line():
            gate = RolloutHook(self.log).judge(context["dag_run"].run_id, self.wave)
        self.log.info("%s", gate.message)
        if gate.nodes is None:
            look_again(WAIT_S)
        if not gate.nodes:
            self.skip(ti=context["ti"], tasks=self.not_needed())
        return gate.nodes

    def not_needed(self) -> list[Any]:
        """Return what there is no need for after the last wave: all that follows but the DAG's last task.

        The scheduler would skip it too, but takes a second or more for each link of that chain.
        """
        return [task for task in self.get_flat_relatives() if task.downstream_task_ids]
