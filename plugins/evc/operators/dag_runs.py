"""Whether a run of deploy_model goes on."""

from __future__ import annotations

from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

GOES_ON = ["queued", "running"]


def is_over(run_id: str) -> bool:
    """Whether the run has ended, or was deleted: then nobody closes its roll-out any more."""
    from evc.hooks.rollouts import DAG_ID

    return RuntimeTaskInstance.get_dr_count(DAG_ID, run_ids=[run_id], states=GOES_ON) == 0
