"""Airflow imports this in each of its processes where it is on the path: ``$AIRFLOW_HOME/config`` or ``PYTHONPATH``."""

from __future__ import annotations

import sys

if "scheduler" in sys.argv:
    # LocalExecutor's tasks are forks of the scheduler: what it has imported, none of them imports again
    import evc.hooks.fleet
    import evc.hooks.images  # noqa: F401
