"""Register a node: contact it, pin its host key, read its facts, store it, write hosts.ini, find it on the map.

A node is anything with sshd. Registering the same name at the same address again renews what is known of it; a host key
that has changed is refused unless the new one is given as `host_key`.

Where a registry is configured (connection `evc_registry`) and the node has a Docker Engine, `copy_cert` gives it a pull
account of its own: the registry's CA and the login are copied there and tried by the node's engine. Registering again
renews both. Without registry or engine that task is skipped.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import dag

from evc.operators.copy_cert import CopyCertOperator
from evc.operators.locate_nodes import LocateNodesOperator
from evc.operators.params import node_params
from evc.operators.register_node import RegisterNodeOperator


@dag(
    schedule=None,
    is_paused_upon_creation=False,
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
    register >> CopyCertOperator(task_id="copy_cert")


register_node()
