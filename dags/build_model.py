"""Build a model's image on a builder node, push it to the registry, record its digest.

The source, `include/models/<model>/`, goes to the builder (only what changed travels), its engine builds it with the
log line by line here, and pushes it. The same source built again is seen as such: status `unchanged`, nothing built or
pushed, unless `force`. What can't work is refused before anything is copied: an unknown model, a `platform` that the
builder can't run, a registry that does not let us in. See docs/models.md.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import dag

from evc.operators.build_model import BuildModelOperator
from evc.operators.params import build_params


@dag(
    schedule=None,
    is_paused_upon_creation=False,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    params=build_params(),
    default_args={"retries": 2, "retry_delay": timedelta(seconds=10)},
    doc_md=__doc__,
    tags=["evc", "models"],
)
def build_model() -> None:
    BuildModelOperator(task_id="build")


build_model()
