"""Roll up the samples, remove what is too old, notice nodes that behave oddly. Every ten minutes.

`node_samples_5m`, `_1h`, `_6h`, `_1d`, `_7d` get the buckets that are over, and anew those that late samples came for;
`inference_runs_5m`, `inference_runs_1h` and `inference_results_1h` the hours of result lines. What is older than
`[evc] retention_*_days` goes, samples and lines only when they are rolled up; PostgreSQL's partitions are made two
weeks ahead, dropped whole. The log says what was done and how large the database is.

`detect_anomalies` compares the last hour of each node with the same hour of its earlier weeks, or days, and with its
group; what begins and ends is an event of kind `anomaly`, which says what is usual.

Once a day Airflow's own log files older than `[evc] retention_logs_days` go, and after that the scheduler runs
`airflow db clean` for rows as old. A run that is killed has lost nothing; two at once do no harm.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import dag

from evc.operators.detect_anomalies import DetectAnomaliesOperator
from evc.operators.maintain_metrics import MaintainMetricsOperator


@dag(
    schedule=timedelta(minutes=10),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 1, "retry_delay": timedelta(seconds=30)},
    doc_md=__doc__,
    tags=["evc", "metrics"],
)
def maintain_metrics() -> None:
    MaintainMetricsOperator(task_id="maintain") >> DetectAnomaliesOperator(task_id="detect_anomalies")


maintain_metrics()
