"""Register a node: contact it, pin its host key, read its facts, store it, write hosts.ini, find it on the map.

A node is anything with sshd. Registering the same name at the same address again renews what is known of it; a host key
that has changed is refused unless the new one is given as `host_key`.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import dag

from evc.operators.locate_nodes import LocateNodesOperator
from evc.operators.params import node_params
from evc.operators.register_node import RegisterNodeOperator


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    params=node_params(),
    default_args={"retries": 1, "retry_delay": timedelta(seconds=10)},
    doc_md=__doc__,
    tags=["evc", "nodes"],
)
def register_node() -> None:
    register = RegisterNodeOperator(task_id="register")
    register >> LocateNodesOperator(task_id="locate", name="{{ params.name }}")


register_node()
