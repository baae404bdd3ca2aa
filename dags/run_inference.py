"""Run a model once on each of the chosen nodes and store what it prints.

A container of its own on each node, from the deployed image or a named one, looks at `input` and ends by itself, at
`limit` frames, or when `timeout_s` is over. One task a node, with its own log. Results are in `inference_results`,
speed and outcome in `inference_runs`. See docs/models.md.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import dag

from evc.operators.params import inference_params
from evc.operators.plan_inference import PlanInferenceOperator
from evc.operators.run_inference import RunInferenceOperator


@dag(
    schedule=None,
    is_paused_upon_creation=False,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    params=inference_params(),
    default_args={"retries": 4, "retry_delay": timedelta(seconds=10)},
    doc_md=__doc__,
    tags=["evc", "models"],
)
def run_inference() -> None:
    plan = PlanInferenceOperator(task_id="plan")
    RunInferenceOperator.partial(task_id="infer", map_index_template="{{ task.node }}").expand_kwargs(plan.output)


run_inference()
