"""Compare what runs on the nodes with what should, every minute; bring nodes that were away up to date.

A node that a roll-out waits for gets its digest as soon as it answers, until the deadline. A container that someone
removed, stopped or replaced by hand is an event `drift` of its node; with `[evc] repair_drift`, or `repair` in a run's
conf, it is put right. Healthy nodes are looked at every `[evc] drift_interval_s`, all that are chosen by `nodes` or
`groups` at once. What a roll-out is working on is left alone. Roll-outs that nobody closed are closed. Removed nodes
that were away (`pending_cleanup`) are cleaned when they answer again.

A node whose image comes over a slow way keeps its run busy; the next runs see to all the others meanwhile.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import dag

from evc.operators.params import reconcile_params
from evc.operators.reconcile_fleet import ReconcileFleetOperator


@dag(
    schedule=timedelta(minutes=1),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=4,  # what one is at work on the others leave alone
    params=reconcile_params(),
    default_args={"retries": 1, "retry_delay": timedelta(seconds=10)},
    doc_md=__doc__,
    tags=["evc", "models"],
)
def reconcile_fleet() -> None:
    ReconcileFleetOperator(task_id="reconcile")


reconcile_fleet()
