"""Nodes that behave unlike themselves, or unlike their group."""

from __future__ import annotations

from airflow.sdk import BaseOperator, Context

from evc.operators.refusal import one_line


class DetectAnomaliesOperator(BaseOperator):
    """Compares what each node did in the last hour with what it usually does at this hour, and with its group.

    What begins and what ends is an event of the node, kind ``anomaly``, once.
    """

    def execute(self, context: Context) -> dict[str, int]:
        """Return how many ``nodes`` were looked at, how many anomalies were ``begun`` and ``ended``.

        :raises AirflowException: the database is away; a retry judges the bucket of its own time
        """
        from evc.hooks.anomalies import AnomaliesHook

        with one_line():
            return AnomaliesHook(self.log).look()
