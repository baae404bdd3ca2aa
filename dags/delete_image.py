"""Delete an image from the private registry, by digest: every tag that leads to it goes along; the log lists them.

An image that a node runs or should have, or that an unfinished roll-out needs, is refused unless forced. Nodes that run
it go on running it; they can't pull it again. Its space comes back with the registry's next garbage collection.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import dag

from evc.operators.delete_image import DeleteImageOperator
from evc.operators.find_image import FindImageOperator
from evc.operators.params import image_params


@dag(
    schedule=None,
    is_paused_upon_creation=False,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    params=image_params(),
    default_args={"retries": 2, "retry_delay": timedelta(seconds=10)},
    doc_md=__doc__,
    tags=["evc", "models"],
)
def delete_image() -> None:
    DeleteImageOperator(task_id="delete", image=FindImageOperator(task_id="find").output)


delete_image()
