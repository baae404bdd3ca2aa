"""Remove a node from the fleet. Its samples and events stay; its name and address are free again.

First its account at the registry is revoked, so its very next pull is refused. Then it leaves hosts.ini and sweeps, and
what EVC has put on it is removed: containers, the registry's CA and the login. A node that does not answer stays
`pending_cleanup`; `reconcile_fleet` cleans it when it is back. Remove it once more, with `force`, to give that up.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import dag

from evc.operators.params import force, name
from evc.operators.remove_node import RemoveNodeOperator


@dag(
    schedule=None,
    is_paused_upon_creation=False,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    params={
        "name": name("A registered node."),
        "force": force(
            "Even where other nodes are reached through it; there is no way to them then. Pending cleanup is given up."
        ),
    },
    default_args={"retries": 1, "retry_delay": timedelta(seconds=10)},
    doc_md=__doc__,
    tags=["evc", "nodes"],
)
def remove_node() -> None:
    RemoveNodeOperator(task_id="remove")


remove_node()
