"""Playbooks on nodes: settings, connections and Ansible put together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from evc.errors import Stopped
from evc.fleet.log import Log
from evc.fleet.nodes import Node
from evc.fleet.playbooks import Report
from evc.fleet.settings import Settings
from evc.hooks.metrics import MetricsHook
from evc.hooks.nodes import NodesHook
from evc.hooks.playbook_run import FORKS, TIMEOUT_S, Job, PlaybookRun, check_playbook
from evc.hooks.settings import playbooks_folder, settings
from evc.store.database import check_schema
from evc.store.nodes import list_nodes


class PlaybooksHook:
    """Runs playbooks of ``[evc] playbooks_folder``; one object serves one task.

    :param log: the task's own log: a line for each host and task as it happens
    :param nodes_hook: where the task has one already: it knows the logins
    :ivar is_stopped: :meth:`stop` was called
    """

    def __init__(self, log: Log, nodes_hook: NodesHook | None = None) -> None:
        self.log = log
        self.settings: Settings = settings()
        self.nodes_hook = nodes_hook or NodesHook()
        self._run: PlaybookRun | None = None
        self.is_stopped = False

    def nodes(self) -> list[Node]:
        """Return every registered node.

        :raises DatabaseError: away, or of another version
        """
        check_schema(self.engine)
        with self.engine.connect() as connection:
            return list_nodes(connection)

    @cached_property
    def engine(self) -> Engine:
        """The metrics database."""
        return MetricsHook().engine

    def path(self, playbook: str) -> Path:
        """Return where a playbook lies.

        :raises InputError: none of that name
        """
        return check_playbook(playbooks_folder(self.settings), playbook)

    def run(
        self,
        playbook: str,
        nodes: Iterable[Node],
        registered: Iterable[Node],
        *,
        variables: Mapping[str, Any] | None = None,
        secrets: Mapping[str, Any] | None = None,
        host_secrets: Mapping[str, Mapping[str, Any]] | None = None,
        forks: int = FORKS,
        timeout_s: float = TIMEOUT_S,
    ) -> Report:
        """Run ``playbook`` on ``nodes``; parameters as in :class:`~evc.hooks.playbook_run.Job`.

        :param registered: every registered node, for the way through jump nodes
        :raises InputError: no such playbook
        :raises PlaybookFailed: Ansible itself failed; what single hosts did not do is in the report
        :raises Stopped: :meth:`stop` was called
        """
        job = Job(
            self.path(playbook),
            list(nodes),
            {node.name: node for node in registered},
            variables=variables or {},
            secrets=secrets or {},
            host_secrets=host_secrets or {},
            forks=forks,
            timeout_s=timeout_s,
        )
        if self.is_stopped:
            raise Stopped(f"{playbook}: stopped before it began")
        self._run = PlaybookRun(
            job, self.nodes_hook.credentials, self.log, connect_timeout_s=self.settings.connect_timeout_s
        )
        return self._run.run()

    def stop(self) -> None:
        """End the run under way, if there is one, with every process it has started; none begins any more."""
        self.is_stopped = True
        if self._run:
            self._run.stop()
