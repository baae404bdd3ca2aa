"""The sweeps of one shard: one task, one event loop, a coroutine for each node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, Context

from evc.operators.dag_runs import run_key
from evc.operators.refusal import one_line

if TYPE_CHECKING:
    from evc.hooks.fleet import FleetHook

HOME = "collect_telemetry"


class SweepNodesOperator(BaseOperator):
    """Sweeps its share of the nodes at every tick of the run's window, over connections that stay open.

    A node that does not answer is a row with ``up`` = 0, not a failure. The task fails where the metrics database or a
    login is at fault. A retry goes on with the ticks that remain.

    :param shard_index: which share, from 0
    :param shard_count: of how many
    :param names: only these nodes; None means every registered one
    :param sweeps: so many from now on; None means the window that begins when the run was due
    """

    template_fields: Sequence[str] = ("names",)

    def __init__(
        self, *, shard_index: int, shard_count: int, names: list[str] | None, sweeps: int | None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._hook: FleetHook | None = None
        self.shard_index, self.shard_count, self.names, self.sweeps = shard_index, shard_count, names, sweeps

    def execute(self, context: Context) -> dict[str, int]:
        """Return what was done: sweeps, missed ticks, nodes up and down at the last one, rows.

        :raises AirflowException: the database or a login is at fault
        """
        from evc.hooks.fleet import FleetHook
        from evc.sweep.run import Shard

        run = context["dag_run"]
        with one_line():
            self._hook = FleetHook(self.log)
            report = self._hook.sweep(
                run_key(context, HOME),
                Shard(self.shard_index, self.shard_count),
                self.names,
                run.run_after.timestamp(),
                self.sweeps,
            )
        return report.counts()

    def on_kill(self) -> None:
        """Write what was swept and end: the task was cancelled, or its worker shuts down."""
        if self._hook:
            self._hook.stop()
