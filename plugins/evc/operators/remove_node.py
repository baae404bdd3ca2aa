"""Removal of one node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, Context

from evc.operators.conf import params_of
from evc.operators.refusal import one_line

if TYPE_CHECKING:
    from evc.hooks.removal import RemovalHook


class RemoveNodeOperator(BaseOperator):
    """Takes the node named in the run's params out of the fleet: its registry account, hosts.ini, what EVC put on it.

    A node that does not answer stays ``pending_cleanup``. Its history stays in any case.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._hook: RemovalHook | None = None

    def execute(self, context: Context) -> int:
        """Return the node's id.

        :raises AirflowFailException: no such node, or others are reached through it
        :raises AirflowException: it answered, but could not be cleaned; it is ``pending_cleanup``
        """
        from evc.hooks.removal import RemovalHook

        with one_line():
            params = params_of(context)
            self._hook = RemovalHook(self.log)
            return self._hook.remove(params["name"], params["force"])

    def on_kill(self) -> None:
        """End the work on the node; what is left to do stays noted."""
        if self._hook:
            self._hook.stop()
