"""The gate after a wave: on to the next one, wait, go back, or give up; where asked for, a person says yes first."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.sdk import Context

from evc.operators.dag_runs import rollout_key
from evc.operators.finish_rollout import FinishRolloutOperator
from evc.operators.later import look_again
from evc.operators.refusal import one_line

WAIT_S = 20


class JudgeWaveOperator(ApprovalOperator):
    """Returns the names of the next wave's nodes; after the last wave it closes the roll-out and skips what follows.

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
            RolloutHook(self.log).reject(rollout_key(context), self.wave + 1, who["name"] if who else "someone")
        return None

    def _judge(self, context: Context) -> list[str] | None:
        from evc.hooks.rollouts import RolloutHook

        hook, run_id = RolloutHook(self.log), rollout_key(context)
        with one_line():
            gate = hook.judge(run_id, self.wave)
        self.log.info("%s", gate.message)
        if gate.nodes is None:
            look_again(WAIT_S)
        if not gate.nodes:
            with one_line():
                self.log.info("%s", hook.finish(run_id))
            self.skip(ti=context["ti"], tasks=self._rest())
        return gate.nodes

    def _rest(self) -> list[Any]:
        """Return all that follows, up to the end of the roll-out.

        The scheduler would skip it too, but takes a second or more for each link of that chain.
        """
        following = self.get_flat_relatives()
        finish = next(task for task in following if isinstance(task, FinishRolloutOperator))
        beyond = finish.get_flat_relative_ids()
        return [task for task in following if task.task_id not in beyond]
