"""Remove a node from the fleet and from hosts.ini. Its samples and events stay; its name and address are free again."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import dag

from evc.operators.params import force, name
from evc.operators.remove_node import RemoveNodeOperator


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    params={
        "name": name("A registered node."),
        "force": force("Remove it even where other nodes are reached through it; there is no way to them then."),
    },
    default_args={"retries": 1, "retry_delay": timedelta(seconds=10)},
    doc_md=__doc__,
    tags=["evc", "nodes"],
)
def remove_node() -> None:
    RemoveNodeOperator(task_id="remove")


remove_node()
