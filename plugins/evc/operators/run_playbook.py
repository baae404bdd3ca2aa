"""Ansible playbooks on nodes: every one runs through here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, Context

from evc.operators.refusal import one_line

if TYPE_CHECKING:
    from evc.hooks.playbooks import PlaybooksHook


class RunPlaybookOperator(BaseOperator):
    """Runs a playbook of ``[evc] playbooks_folder`` on nodes; each host and task is a line of the log as it happens.

    Operators that have to prepare or to look after something override :meth:`work`. Cancelled, it ends Ansible and all
    that it started.

    :param playbook: its name, e.g. ``copy_cert`` (templated)
    :param nodes: names of nodes (templated)
    :param groups: or of groups (templated); with neither, every node
    :param variables: extra vars (templated); nothing secret, which belongs into :meth:`work`
    :param unreachable_fails: whether a node that is not reached fails the task, as one does that says no
    :param forks: on how many nodes at a time
    :param timeout_s: for all of it
    """

    template_fields: Sequence[str] = ("playbook", "nodes", "groups", "variables")

    def __init__(
        self,
        *,
        playbook: str,
        nodes: Sequence[str] | str = (),
        groups: Sequence[str] | str = (),
        variables: Mapping[str, Any] | None = None,
        unreachable_fails: bool = True,
        forks: int = 20,
        timeout_s: float = 600,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._hook: PlaybooksHook | None = None
        self.playbook, self.nodes, self.groups = playbook, nodes, groups
        self.variables = variables
        self.unreachable_fails, self.forks, self.timeout_s = unreachable_fails, forks, timeout_s

    def execute(self, context: Context) -> Any:
        """Return what :meth:`work` does.

        :raises AirflowFailException: no such playbook, node or group
        :raises AirflowException: a host failed; the message names host, task and reason
        """
        from evc.hooks.playbooks import PlaybooksHook

        with one_line():
            self._hook = PlaybooksHook(self.log)
            return self.work(self._hook, context)

    def work(self, hook: PlaybooksHook, context: Context) -> Any:
        """Return by node how it went: ``ok``, ``failed`` or ``unreachable``.

        :raises PlaybookFailed: a host failed
        """
        from evc.fleet.nodes import select

        nodes = hook.nodes()
        report = hook.run(
            self.playbook,
            select(nodes, _names(self.nodes), _names(self.groups)),
            nodes,
            variables=self.variables,
            forks=self.forks,
            timeout_s=self.timeout_s,
        )
        report.raise_failures(unreachable=self.unreachable_fails)
        return {name: str(result.status) for name, result in report.results.items()}

    def on_kill(self) -> None:
        """End Ansible and everything it started: the task was cancelled, or its worker shuts down."""
        if self._hook:
            self._hook.stop()


def _names(given: Sequence[str] | str) -> Sequence[str]:
    return [given] if isinstance(given, str) else given
