"""Parses a folder of DAGs with Airflow imported beforehand; a child of the bench."""

from __future__ import annotations

import time
from typing import Any

from bench.child import cpu_s, read_order, reply


def _parse(folder: str) -> dict[str, Any]:
    from airflow.dag_processing.dagbag import DagBag  # noqa: PLC0415

    wall, cpu = time.monotonic(), cpu_s()
    bag = DagBag(folder)
    return {
        "seconds": time.monotonic() - wall,
        "cpu_s": cpu_s() - cpu,
        "dags": len(bag.dags),
        "errors": list(bag.import_errors.values()),
    }


if __name__ == "__main__":
    order = read_order()
    begun = time.monotonic()
    for known in order["known"]:  # whatever Airflow itself imports for any DAG is imported by these
        _parse(known)
    reply({"import_s": time.monotonic() - begun, **_parse(order["folder"])})
