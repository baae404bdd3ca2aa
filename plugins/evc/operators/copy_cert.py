"""A node's login at the private registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowSkipException

from evc.operators.run_playbook import RunPlaybookOperator

if TYPE_CHECKING:
    from evc.hooks.playbooks import PlaybooksHook


class CopyCertOperator(RunPlaybookOperator):
    """Gives the node named in the run's params an account of its own, copies CA and login there, tries it from there.

    Skipped where no registry is configured, or no engine answers on the node.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(playbook="copy_cert", **kwargs)

    def work(self, hook: PlaybooksHook, context: Context) -> None:
        """Do it.

        :raises AirflowSkipException: the node needs no login
        :raises PlaybookFailed: the login could not be copied
        :raises NodeError: it does not work from the node
        """
        from evc.hooks.logins import LoginsHook

        needless = LoginsHook(self.log, hook).copy(context["params"]["name"])
        if needless:
            self.log.info("%s", needless)
            raise AirflowSkipException(needless)
