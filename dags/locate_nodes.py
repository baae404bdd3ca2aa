"""Find nodes that have an address but no place on the map: known answers first, then Nominatim, then offline."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import dag

from evc.operators.locate_nodes import LocateNodesOperator


@dag(
    schedule=timedelta(hours=1),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 1, "retry_delay": timedelta(seconds=10)},
    doc_md=__doc__,
    tags=["evc", "nodes"],
)
def locate_nodes() -> None:
    LocateNodesOperator(task_id="locate")


locate_nodes()
