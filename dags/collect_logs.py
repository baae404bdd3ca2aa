"""Collect logs of nodes: journal, Docker Engine, EVC's containers, kernel, facts; whatever of them a node has.

One compressed file for each node in the state folder, `logs/<run>/<node>.tar.gz`, listed in the log of `collect`.
Passwords, tokens, keys and the like are masked before anything is written. A node that does not answer is a line of the
log; the others are collected. `since` is a duration (`30m`, `2h`, `7d`) or an RFC 3339 time.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import dag

from evc.operators.collect_logs import CollectLogsOperator
from evc.operators.params import selection, since


@dag(
    schedule=None,
    is_paused_upon_creation=False,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    params={**selection(), "since": since()},
    default_args={"retries": 1, "retry_delay": timedelta(seconds=10)},
    doc_md=__doc__,
    tags=["evc", "nodes"],
)
def collect_logs() -> None:
    CollectLogsOperator(task_id="collect")


collect_logs()
