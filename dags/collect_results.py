"""Store the new result lines of all models that run continuously: each minute, each line once.

Where reading ended is kept for each container, so nothing is doubled or lost when a container, a node or this task is
restarted. A node that does not answer is read when it is back; the engine keeps 30 MB of a container's lines.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import dag

from evc.operators.collect_results import CollectResultsOperator


@dag(
    schedule=timedelta(minutes=1),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 1, "retry_delay": timedelta(seconds=5)},
    doc_md=__doc__,
    tags=["evc", "models"],
)
def collect_results() -> None:
    CollectResultsOperator(task_id="collect")


collect_results()
