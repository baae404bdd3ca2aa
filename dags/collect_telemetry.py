"""Collect telemetry of every node over SSH: one run for each window, a sweep of all nodes at every tick.

With `nodes`, `groups` or `sweeps` a run is a one-off: so many sweeps of the chosen nodes, beginning at once. A node
that does not answer is data (`up` = 0, and an event when its state changes); a task fails where the metrics database
or a login is at fault. Interval and window: `[evc] sweep_interval_s` and `sweep_window_s`.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import dag

from evc.hooks.settings import sweep_window
from evc.operators.params import selection, sweeps
from evc.operators.plan_sweeps import PlanSweepsOperator
from evc.operators.sweep_nodes import SweepNodesOperator


@dag(
    schedule=sweep_window(),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    params={**selection(), "sweeps": sweeps()},
    default_args={"retries": 5, "retry_delay": timedelta(seconds=5)},
    doc_md=__doc__,
    tags=["evc", "telemetry"],
)
def collect_telemetry() -> None:
    plan = PlanSweepsOperator(task_id="plan")
    SweepNodesOperator.partial(task_id="sweep").expand_kwargs(plan.output)


collect_telemetry()
