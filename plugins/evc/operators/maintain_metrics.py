"""The metrics database kept fit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, Context

from evc.operators.refusal import one_line

if TYPE_CHECKING:
    from evc.hooks.maintenance import MaintenanceHook


class MaintainMetricsOperator(BaseOperator):
    """Rolls up what is new, makes partitions ahead, removes what is too old, tells how large the database is."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._hook: MaintenanceHook | None = None

    def execute(self, context: Context) -> dict[str, int]:
        """Return how many rows were ``rolled_up`` and ``removed``, and ``database_bytes``.

        :raises AirflowException: the database is away; steps that were done stay done
        """
        from evc.hooks.maintenance import MaintenanceHook

        with one_line():
            self._hook = MaintenanceHook(self.log)
            return self._hook.run(int(time.time()))

    def on_kill(self) -> None:
        """End after the step that goes on: each is a transaction of its own."""
        if self._hook:
            self._hook.stop()
