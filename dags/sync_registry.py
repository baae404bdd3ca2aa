"""Record what the private registry holds: repository, tag, digest, size, platform, creation, description, source.

Runs every five minutes, and when you trigger it. Tags that are gone are marked (`gone_ts`), not dropped. A registry
that does not answer fails the task and marks nothing. The log warns when the registry's certificate is about to expire.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import dag

from evc.operators.sync_registry import SyncRegistryOperator


@dag(
    schedule=timedelta(minutes=5),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 1, "retry_delay": timedelta(seconds=10)},
    doc_md=__doc__,
    tags=["evc", "models"],
)
def sync_registry() -> None:
    SyncRegistryOperator(task_id="sync")


sync_registry()
