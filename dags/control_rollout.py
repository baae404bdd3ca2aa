"""Pause, resume or abort a roll-out, by its id or by its model.

`pause`: no further node begins, those at work end. `resume`: it goes on. `abort`: no further node begins, nodes that
have the new image keep it, and the model is free for another roll-out as soon as those at work are done. On a shell:
`evc rollouts`.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import dag

from evc.operators.control_rollout import ControlRolloutOperator
from evc.operators.params import control_params


@dag(
    schedule=None,
    is_paused_upon_creation=False,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    params=control_params(),
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5)},
    doc_md=__doc__,
    tags=["evc", "models"],
)
def control_rollout() -> None:
    ControlRolloutOperator(task_id="control")


control_rollout()
