"""The DAG runs that roll out: deploy_model's, and those of scenarios."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import Context
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

if TYPE_CHECKING:
    from collections.abc import Sequence

GOES_ON: Sequence[str] = ("queued", "running")


def rollout_key(context: Context) -> str:
    """Return what tells the roll-out of a run from all others: the run's id, of other DAGs with the DAG's before it."""
    from evc.hooks.rollouts import DAG_ID

    dag_id, run_id = context["dag"].dag_id, str(context["dag_run"].run_id)
    return run_id if dag_id == DAG_ID else f"{dag_id} {run_id}"


def is_over(key: str) -> bool:
    """Whether the run of a roll-out has ended, or was deleted: then nobody closes the roll-out any more.

    :param key: see :func:`rollout_key`
    """
    from evc.hooks.rollouts import DAG_ID

    first, _, rest = key.partition(" ")
    # a DAG's id holds no space; a run's id may
    dag_id, run_id = (first, rest) if rest and first.startswith("scenario_") else (DAG_ID, key)
    return RuntimeTaskInstance.get_dr_count(dag_id, run_ids=[run_id], states=list(GOES_ON)) == 0
