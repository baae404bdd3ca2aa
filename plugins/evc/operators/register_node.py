"""Registration of one node."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperator, Context

from evc.operators.conf import params_of
from evc.operators.refusal import one_line


class RegisterNodeOperator(BaseOperator):
    """Contacts the node that the run's params describe, pins its host key, stores it and writes hosts.ini.

    Nothing is stored where the node does not answer as it should. The same node registered again is renewed.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        """Return ``name``, ``id`` and ``created``.

        :raises AirflowFailException: a bad value, a name or address that is taken, a login or a host key refused
        :raises AirflowException: no answer; a retry may mend it
        """
        from evc.hooks.fleet import FleetHook

        with one_line():
            return FleetHook(self.log).register(params_of(context))
