"""People are told of events."""

from __future__ import annotations

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowSkipException

from evc.operators.refusal import one_line

_NOBODY = "nobody is to be told: [evc] notify_conn_id is not set where this task runs"


class NotifyEventsOperator(BaseOperator):
    """Sends one message with all events that are new; skipped where nobody is to be told."""

    def execute(self, context: Context) -> int:
        """Return how many events were told.

        :raises AirflowSkipException: ``[evc] notify_conn_id`` is not set
        :raises AirflowException: nobody was told; a retry sends the same events
        """
        from evc.hooks.notices import NoticesHook

        with one_line():
            hook = NoticesHook(self.log)
            if not hook.is_configured:
                # Airflow's UI shows a skip's own words folded away
                self.log.info(_NOBODY)
                raise AirflowSkipException(_NOBODY)
            return hook.tell()
