"""What runs on the nodes, against what should."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, Context

from evc.operators.conf import params_of
from evc.operators.dag_runs import is_over
from evc.operators.refusal import one_line

if TYPE_CHECKING:
    from evc.hooks.reconcile import ReconcileHook
    from evc.hooks.removal import RemovalHook


class ReconcileFleetOperator(BaseOperator):
    """Looks at every node that should run a model and is due, all of them in one event loop.

    A node that is back gets the digest that a roll-out waits to bring; what someone changed by hand becomes an event
    ``drift`` and, where wanted, is put right. Removed nodes that were away are cleaned when they answer. Reads
    ``nodes``, ``groups`` and ``repair`` from the run's params.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._hook: ReconcileHook | None = None
        self._removal: RemovalHook | None = None

    def execute(self, context: Context) -> dict[str, int]:
        """Return how many assignments were found how, and how many removed nodes were ``cleaned``, are ``pending``.

        :raises AirflowFailException: a node or group that does not exist
        """
        from evc.hooks.reconcile import ReconcileHook
        from evc.hooks.removal import RemovalHook

        with one_line():
            params = params_of(context)
            self._hook = ReconcileHook(self.log, params["repair"])
            counts = self._hook.reconcile(params["nodes"] or [], params["groups"] or [], is_over)
            self._removal = RemovalHook(self.log)
            counts |= {name: count for name, count in self._removal.cleanup_pending().items() if count}
        self.log.info("%s", ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing was due")
        return counts

    def on_kill(self) -> None:
        """End the work: the task was cancelled, or its worker shuts down."""
        if self._hook:
            self._hook.stop()
        if self._removal:
            self._removal.stop()
