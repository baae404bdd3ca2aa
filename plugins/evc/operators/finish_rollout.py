"""The end of a roll-out: what has to go back, and the one line that says how it went."""

from __future__ import annotations

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowSkipException

from evc.fleet.words import counted
from evc.operators.dag_runs import rollout_key
from evc.operators.refusal import one_line


class PlanRollbackOperator(BaseOperator):
    """Returns the names of the nodes on which something has to go back; skipped where nothing has to."""

    def execute(self, context: Context) -> list[str]:
        """Return the nodes.

        :raises AirflowSkipException: there is none
        """
        from evc.hooks.rollouts import RolloutHook

        with one_line():
            nodes = RolloutHook(self.log).to_restore(rollout_key(context))
        if not nodes:
            raise AirflowSkipException("nothing has to go back")
        self.log.warning("back to the image before: %s: %s", counted(len(nodes), "node"), ", ".join(nodes))
        return nodes


class FinishRolloutOperator(BaseOperator):
    """Closes a roll-out that did not get through its last gate, and says what became of each node."""

    def execute(self, context: Context) -> str:
        """Return how it went, on one line.

        :raises AirflowFailException: it did not reach its goal
        """
        from evc.hooks.rollouts import RolloutHook

        with one_line():
            line = RolloutHook(self.log).finish(rollout_key(context))
        self.log.info("%s", line)
        return line
