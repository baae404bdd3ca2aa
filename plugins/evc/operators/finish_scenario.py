"""The end of a scenario's run: what its results say, what became of each node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from evc.operators.dag_runs import rollout_key
from evc.operators.refusal import one_line

_GOOD = frozenset({"success", "skipped", "upstream_failed"})  # of the last: what failed before it is named


class FinishScenarioOperator(BaseOperator):
    """Sums up the results, raises the events of the scenario's thresholds, and closes the run.

    Fails where a node or one of ``steps`` did not get through: a run is a success only where all of it is.

    :param steps: ids of the tasks that are not of one node, without whose success nothing is good
    :param digest_of: id and XCom key of the task that says which image the run took; None: what is deployed
    """

    def __init__(self, *, steps: Sequence[str], digest_of: tuple[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.steps, self.digest_of = list(steps), digest_of

    def execute(self, context: Context) -> dict[str, int]:
        """Return how many nodes were ``good``, how many ``failed``, and how many ``events`` there are.

        :raises AirflowFailException: a node or a step did not get through
        """
        from evc.hooks.scenarios import Ending, ScenarioHook

        run = context["dag_run"]
        ending = Ending(
            key=rollout_key(context),
            digest=self._digest(context),
            ts=int(run.run_after.timestamp()),
            broken=tuple(self._broken(str(run.run_id))),
        )
        with one_line():
            return ScenarioHook(self.log).finish(ending)

    def _digest(self, context: Context) -> str | None:
        if self.digest_of is None:
            return None
        task_id, key = self.digest_of
        found = context["ti"].xcom_pull(task_ids=task_id, key=key)
        return None if found is None else str(found)

    def _broken(self, run_id: str) -> list[str]:
        states = RuntimeTaskInstance.get_task_states(self.dag_id, task_ids=self.steps, run_ids=[run_id])
        found = states.get(run_id, {})
        # of a mapped task each instance is told apart: "sweep_0"
        return sorted(name for name, state in found.items() if state not in _GOOD)
