"""Tell people of new events: one message a minute at most, by the connection `[evc] notify_conn_id`.

The connection is of type SMTP (to `[evc] notify_to`) or Apprise. Events of `[evc] notify_severity` and worse count, of
the last day, and the end of what was told; many of one kind share a line. Each is told once: where a message reached
nobody, the next has its events.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import dag

from evc.operators.notify_events import NotifyEventsOperator


@dag(
    schedule=timedelta(minutes=1),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 1, "retry_delay": timedelta(seconds=20)},
    doc_md=__doc__,
    tags=["evc", "events"],
)
def notify_events() -> None:
    NotifyEventsOperator(task_id="notify")


notify_events()
