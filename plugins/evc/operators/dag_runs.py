"""What tells a DAG run from all others: DAGs that are due at the same time give their runs the same id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import Context
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

if TYPE_CHECKING:
    from collections.abc import Sequence

GOES_ON: Sequence[str] = ("queued", "running")


def run_key(context: Context, home: str) -> str:
    """Return the key of a run: its id, and for another DAG than ``home`` the DAG's id and a space before it.

    :param home: the DAG that does the same when it is triggered by hand
    """
    dag_id, run_id = context["dag"].dag_id, str(context["dag_run"].run_id)
    return run_id if dag_id == home else f"{dag_id} {run_id}"


def rollout_key(context: Context) -> str:
    """Return the key of a run that rolls out, or that is a scenario's."""
    from evc.hooks.rollouts import DAG_ID

    return run_key(context, DAG_ID)


def is_over(key: str) -> bool:
    """Whether the run of a roll-out has ended, or was deleted: then nobody closes the roll-out any more.

    :param key: see :func:`rollout_key`
    """
    from evc.hooks.rollouts import DAG_ID

    first, _, rest = key.partition(" ")
    # a DAG's id holds no space; a run's id may
    dag_id, run_id = (first, rest) if rest and first.startswith("scenario_") else (DAG_ID, key)
    return RuntimeTaskInstance.get_dr_count(dag_id, run_ids=[run_id], states=list(GOES_ON)) == 0
