"""Logs of nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Context

from evc.operators.conf import params_of
from evc.operators.run_playbook import RunPlaybookOperator

if TYPE_CHECKING:
    from evc.hooks.playbooks import PlaybooksHook


class CollectLogsOperator(RunPlaybookOperator):
    """Fetches journal, engine and container logs of the nodes that the run's params choose, secrets masked.

    One compressed file for each node, in the state folder. A node that does not answer is a line of the log.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(playbook="get_logs", **kwargs)

    def work(self, hook: PlaybooksHook, context: Context) -> dict[str, int]:
        """Return the sizes of the files in bytes, by node.

        :raises InputError: a node or group that does not exist, or a time that does not fit
        :raises PlaybookFailed: a node answered and gave no logs
        """
        from evc.hooks.logs import LogsHook

        params = params_of(context)
        run_id = context["dag_run"].run_id
        return LogsHook(self.log, hook).collect(run_id, params["nodes"] or [], params["groups"] or [], params["since"])
