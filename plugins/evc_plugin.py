"""The one file of EVC that Airflow loads as a plugin; everything else is imported from the package ``evc``."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from evc.hooks import airflow_rows, pools


class EvcPlugin(AirflowPlugin):
    """Operators and hooks are imported by the DAGs; here is what Airflow itself calls."""

    name = "evc"
    listeners: list[Any] = [pools, airflow_rows]  # noqa: RUF012  as Airflow declares it
