"""One node of a roll-out: one task, with its own log and its own retries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowSkipException

from evc.operators.dag_runs import rollout_key
from evc.operators.later import look_again
from evc.operators.refusal import one_line

if TYPE_CHECKING:
    from evc.hooks.deployment import DeploymentHook, Turn


class DeployNodeOperator(BaseOperator):
    """Brings a node to the digest of the run's roll-out: preflight, pull, container, health gate.

    What becomes of the node is data in ``rollout_nodes``. The task is red where the node refused or failed, and skipped
    where it does not answer (it is ``pending`` then) or where it is not its turn any more. While the roll-out pauses it
    waits, its slot free.

    :param node: its name
    """

    template_fields: Sequence[str] = ("node",)

    def __init__(self, *, node: str, **kwargs: object) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self.node = node
        self._hook: DeploymentHook | None = None

    def execute(self, context: Context) -> None:
        """Bring the node there.

        :raises AirflowFailException: it refused, or failed in a way that would not change
        :raises AirflowException: a retry may mend it
        :raises AirflowSkipException: it does not answer, or the roll-out has ended
        """
        from evc.hooks.deployment import DeploymentHook

        with one_line():
            self._hook = DeploymentHook(self.log)
            turn = self._turn(self._hook, rollout_key(context), self._is_last_try(context))
        self._end(turn)

    def on_kill(self) -> None:
        """End the work: the task was cancelled, or its worker shuts down."""
        if self._hook:
            self._hook.stop()

    def _turn(self, hook: DeploymentHook, run_id: str, is_last_try: bool) -> Turn:
        return hook.deploy(run_id, self.node, is_last_try=is_last_try)

    def _is_last_try(self, context: Context) -> bool:
        ti = context["ti"]
        return ti.try_number > ti.max_tries

    def _end(self, turn: Turn) -> None:
        from evc.hooks.deployment import Kind

        if turn.kind is Kind.SKIP:
            raise AirflowSkipException(turn.message)
        self.log.info("%s", turn.message)
        if turn.kind is Kind.WAIT:
            look_again(turn.wait_s)


class RestoreNodeOperator(DeployNodeOperator):
    """Brings a node back to what it had before the run's roll-out; where it had nothing, the model is taken away.

    A node that does not answer goes back when it does: reconcile_fleet sees to it.
    """

    def _turn(self, hook: DeploymentHook, run_id: str, is_last_try: bool) -> Turn:
        return hook.restore(run_id, self.node, is_last_try=is_last_try)
