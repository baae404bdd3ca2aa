"""Roll a model's image out, wave by wave, each node with its own log and its own retries.

`plan` checks everything and turns the tag into a digest, once. Per node: preflight, pull, container, health gate; the
previous container is kept until then. After each wave a gate: on, wait, or, where more nodes failed than
`error_threshold` allows, back to what the nodes had before. A node that does not answer is pending until `deadline`;
reconcile_fleet brings it when it is back. Pause, resume, abort: control_rollout or `evc rollouts`; docs/rollouts.md.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import dag

from evc.operators.params import rollout_params
from evc.operators.roll_out import roll_out


@dag(
    schedule=None,
    is_paused_upon_creation=False,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    params=rollout_params(),
    default_args={"retries": 2, "retry_delay": timedelta(seconds=10)},
    doc_md=__doc__,
    tags=["evc", "models"],
)
def deploy_model() -> None:
    roll_out()


deploy_model()
