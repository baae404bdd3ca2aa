"""Register the nodes of an existing Ansible inventory: ranges, groups, children and vars are read by Ansible itself.

Nodes are not contacted: the next sweep pins their host keys and reads their facts. Importing twice changes nothing.
What can't be imported is listed in the log of `import_nodes`; the rest is.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import dag

from evc.operators.import_inventory import ImportInventoryOperator
from evc.operators.locate_nodes import LocateNodesOperator
from evc.operators.params import inventory_path


@dag(
    schedule=None,
    is_paused_upon_creation=False,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    params={"path": inventory_path()},
    default_args={"retries": 1, "retry_delay": timedelta(seconds=10)},
    doc_md=__doc__,
    tags=["evc", "nodes"],
)
def import_inventory() -> None:
    ImportInventoryOperator(task_id="import_nodes") >> LocateNodesOperator(task_id="locate")


import_inventory()
