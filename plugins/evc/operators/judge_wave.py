"""The gate after a wave: on to the next one, wait, go back, or give up; where asked for, a person says yes first."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException

from evc.operators.conf import params_of
from evc.operators.dag_runs import rollout_key
from evc.operators.finish_rollout import FinishRolloutOperator
from evc.operators.later import look_again
from evc.operators.refusal import one_line

WAIT_S = 20


class JudgeWaveOperator(ApprovalOperator):
    """Returns the names of the next wave's nodes; after the last wave it closes the roll-out and skips what follows.

    With the param ``approval`` it asks before the next wave, and goes on when a person approves: under Required actions
    in the UI, or over the REST API. A wave that was approved is not asked for again, unless a node failed since: not
    after a pause, nor by a retry. A rejection aborts the roll-out.

    :param wave: which one to judge, from 0
    """

    def __init__(self, *, wave: int, **kwargs: Any) -> None:
        super().__init__(subject="Go on with the next wave?", **kwargs)  # what is asked is made when it is asked
        self.wave = wave

    def execute(self, context: Context) -> list[str] | None:
        """Return the next wave.

        :raises AirflowFailException: the roll-out ends here
        :raises AirflowException: a node failed since the next wave was approved; a retry asks anew
        """
        nodes = self._judge(context)
        if nodes and self._has_to_ask(context):
            self.log.info("the next wave waits for an approval: Required actions in the UI")
            super().execute(context)  # comes back in execute_complete
        return nodes

    def execute_complete(self, context: Context, event: dict[str, Any]) -> list[str] | None:
        """Return the next wave where it was approved.

        :raises AirflowFailException: it was not; or the roll-out ended meanwhile
        """
        from evc.hooks.approvals import ApprovalHook
        from evc.hooks.rollouts import RolloutHook

        answer = HITLOperator.execute_complete(self, context, event)
        user = answer["responded_by_user"]
        key, who = rollout_key(context), user["name"] if user else "someone"
        with one_line():
            if answer["chosen_options"] != [self.APPROVE]:
                RolloutHook(self.log).reject(key, self.wave + 1, who)  # which raises
            ApprovalHook().approve(key, self.wave + 1, who)
        return self._judge(context)

    def _has_to_ask(self, context: Context) -> bool:
        """Whether the next wave needs an approval that it does not have; then the question is ready."""
        from evc.hooks.approvals import ApprovalHook

        with one_line():
            if not params_of(context)["approval"]:
                return False
            question = ApprovalHook().ask(rollout_key(context), self.wave + 1)
        if question is None:
            self.log.info("wave %d was approved before", self.wave + 2)
            return False
        if question.failed_since:
            # within one try Airflow shows a question as it was first asked, without them
            failed = ", ".join(question.failed_since)
            raise AirflowException(f"failed since wave {self.wave + 2} was approved: {failed}; the next try asks anew")
        self.subject, self.body = question.subject, question.body
        return True

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
