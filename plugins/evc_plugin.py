"""The one file of EVC that Airflow loads as a plugin; everything else is imported from the package ``evc``."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin


class EvcPlugin(AirflowPlugin):
    """Nothing is registered yet: operators and hooks are imported by the DAGs."""

    name = "evc"
