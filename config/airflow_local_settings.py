"""Airflow imports this in each of its processes where it is on the path: ``$AIRFLOW_HOME/config`` or ``PYTHONPATH``."""

from __future__ import annotations

import sys

if "scheduler" in sys.argv:
    # LocalExecutor's tasks are forks of the scheduler: what it has imported, none of them imports again
    import ansible_runner  # noqa: F401

    import evc.hooks.builds
    import evc.hooks.fleet
    import evc.hooks.images
    import evc.hooks.inference
    import evc.hooks.logins
    import evc.hooks.logs
    import evc.hooks.reconcile
    import evc.hooks.removal
    import evc.operators.roll_out  # noqa: F401
