"""Nodes leave the fleet: their registry account first, then what EVC has put on them, at once or when they are back.

A node's row says how far that is: ``pending_cleanup`` from the moment it leaves (``removed_ts``), ``removed`` when
nothing is left to do. Both are out of sweeps and hosts.ini, and their name and address are free. Every step may be
repeated, so one that was killed anywhere is finished by a retry or by ``reconcile_fleet``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from evc.engine.client import connect
from evc.errors import (
    CredentialsError,
    EngineAway,
    EngineError,
    EvcError,
    InputError,
    NodeError,
    PlaybookFailed,
    Stopped,
)
from evc.fleet.containers import CONFIG_LABEL
from evc.fleet.log import Log
from evc.fleet.nodes import Node, quote, without_name
from evc.fleet.playbooks import Status
from evc.hooks.fleet import FleetHook
from evc.hooks.logins import LOGIN_EVENT
from evc.hooks.playbooks import PlaybooksHook
from evc.hooks.registry import RegistryHook
from evc.registry.accounts import node_login
from evc.ssh.pool import Pool
from evc.store.assignments import forget_node
from evc.store.events import event_rows, record_event
from evc.store.nodes import (
    PENDING_CLEANUP,
    REMOVED,
    end_cleanup,
    find_node,
    had_containers,
    node_rows,
    pending_nodes,
    remove_node,
)

log = logging.getLogger(__name__)

PLAYBOOK = "del_cert"
AT_ONCE = 50
CLEAN_TIMEOUT_S = 120.0
FAILED_EVENT = "cleanup_failed"
FAILED_PAUSE_S = 3600
_CONFLICT = 409


class RemovalHook:
    """Removes nodes; one object serves one task.

    :param log: the task's own log
    :param playbooks: what runs Ansible, so that the caller can stop it
    """

    def __init__(self, log: Log, playbooks: PlaybooksHook | None = None) -> None:
        self.log = log
        self.fleet = FleetHook(log)
        self.playbooks = playbooks or PlaybooksHook(log, self.fleet.nodes_hook)
        self.registry = RegistryHook()
        self._is_stopped = False

    def stop(self) -> None:
        """End the work under way: someone cancelled the task. What is left to do stays noted."""
        self._is_stopped = True
        self.playbooks.stop()

    def remove(self, name: str, force: bool) -> int:
        """Take a node out of the fleet, of the registry's accounts and of hosts.ini, then clean it; returns its id.

        Its history stays. One that does not answer stays ``pending_cleanup``. A node that is ``pending_cleanup``
        already is tried once more, or given up with ``force``.

        :raises InputError: unknown, or others are reached through it and ``force`` is not given
        :raises PlaybookFailed: it answered, but could not be cleaned; it is ``pending_cleanup``
        """
        nodes = {node.name: node for node in self.fleet.nodes()}
        node = nodes.get(name)
        if node is None or node.id is None:
            return self._once_more(name, force)
        behind = sorted(other.name for other in nodes.values() if other.jump_node == name)
        if behind and not force:
            raise InputError(
                "name", f"{quote(name)} is the jump node of {', '.join(behind)}", "remove those first, or force"
            )
        had_login = self._had_login(node)
        revoked = self._revoke(node, must=had_login and not force)
        with self.fleet.engine.begin() as connection:
            is_dirty = bool(node.host_key) and (revoked or had_login or had_containers(connection, node.id))
            _leave(connection, node, PENDING_CLEANUP if is_dirty else REMOVED)
        self.fleet.publish()
        if behind:
            self.log.warning("no way any more to %s: %s was their jump node", ", ".join(behind), name)
        if is_dirty:
            self._clean_now(node, nodes)
        else:
            self.log.info("%s: removed; its samples and events stay", name)
        return node.id

    def cleanup_pending(self) -> dict[str, int]:
        """Clean every removed node that answers again; returns how many were ``cleaned`` and are still ``pending``.

        For ``reconcile_fleet``: what a node does not do is a line of the log, no error. Where the machine is registered
        anew at the same address, only the old account goes: what is on it belongs to the new registration.

        :raises Stopped: the task was cancelled
        :raises PlaybookFailed: Ansible itself failed
        """
        with self.fleet.engine.connect() as connection:
            everyone = pending_nodes(connection)
        waiting = [node for node in everyone if not self._failed_lately(node)]
        if not waiting:
            return {"cleaned": 0, "pending": len(everyone)}
        registered = {node.name: node for node in self.fleet.nodes()}
        for node in waiting:
            self._revoke(node, must=False)
        # names are free again: beside a new node of the same name it needs another one
        aliases = {node.id: replace(node, name=f"{node.name[:40]}.removed-{node.id}") for node in waiting}
        problems = self._clean([aliases[node.id] for node in waiting], registered)
        for node in waiting:
            problem = problems.get(aliases[node.id].name)
            if problem is None:
                self._done(node)
            else:
                self.log.warning("%s: still pending cleanup: %s", node.name, problem)
                if isinstance(problem, PlaybookFailed):
                    message = without_name(aliases[node.id].name, str(problem))
                    self._event(node, FAILED_EVENT, "error", message)
        cleaned = len(waiting) - len(problems)
        return {"cleaned": cleaned, "pending": len(everyone) - cleaned}

    # -- steps -----------------------------------------------------------------------------------------------------

    def _once_more(self, name: str, force: bool) -> int:
        """Go on with a removal that was begun; where it is done, nothing changes."""
        with self.fleet.engine.connect() as connection:
            waiting = pending_nodes(connection, name)
            gone = [row["id"] for row in node_rows(connection, removed=True) if row["name"] == name]
        if not gone:
            raise InputError("name", f"{quote(name)} is not registered", "the name of a registered node")
        self.fleet.publish()  # a try that was killed may not have come to it
        registered = {node.name: node for node in self.fleet.nodes()}
        for node in waiting:
            self._revoke(node, must=False)
            if force:
                self._done(node, "given up: what EVC has put on it may still be there")
            else:
                self._clean_now(node, registered)
        return int(max(gone))

    def _had_login(self, node: Node) -> bool:
        with self.fleet.engine.connect() as connection:
            events = event_rows(connection, node=node.name, kind=LOGIN_EVENT, limit=1000)
        return any(event["node_id"] == node.id for event in events)

    def _revoke(self, node: Node, *, must: bool) -> bool:
        """Take the node's account away; False where it had none.

        :param must: it has one, so that its file has to be there
        :raises InputError: the registry's folder is not there or can't be written
        """
        try:
            if not self.registry.is_configured and not self.registry.folder.pull_only.accounts.path.is_file():
                return False
            revoked = self.registry.revoke(int(node.id or 0))
        except InputError as error:
            if must:
                raise
            self.log.warning("%s: no account revoked: %s", node.name, error)
            return False
        if revoked:
            self.log.info("%s: account %s revoked: its next pull is refused", node.name, node_login(int(node.id or 0)))
        return revoked

    def _clean_now(self, node: Node, registered: Mapping[str, Node]) -> None:
        problem = self._clean([node], registered).get(node.name)
        if problem is None:
            self._done(node)
            return
        message = f"removed, pending cleanup: {problem}; reconcile_fleet goes on when it can"
        said = without_name(node.name, str(problem))
        self._event(node, PENDING_CLEANUP, "warning", said)
        self.log.warning("%s: %s", node.name, message)
        if isinstance(problem, PlaybookFailed):
            self._event(node, FAILED_EVENT, "error", said)
            raise PlaybookFailed(f"{node.name}: {message}")

    def _failed_lately(self, node: Node) -> bool:
        """Whether it answered and could not be cleaned: someone has to mend something first, so it is asked seldom."""
        with self.fleet.engine.connect() as connection:
            events = event_rows(connection, node=node.name, kind=FAILED_EVENT, limit=100)
        newest_ts = max((event["ts"] for event in events if event["node_id"] == node.id), default=0)
        return time.time() - newest_ts < FAILED_PAUSE_S

    def _event(self, node: Node, kind: str, severity: str, message: str) -> None:
        with self.fleet.engine.begin() as connection:
            record_event(connection, int(node.id or 0), kind, severity, message, int(time.time()))

    def _done(self, node: Node, message: str = "cleaned and removed") -> None:
        with self.fleet.engine.begin() as connection:
            if end_cleanup(connection, int(node.id or 0)):
                record_event(connection, int(node.id or 0), REMOVED, "info", message, int(time.time()))
        self.log.info("%s: %s; its samples and events stay", node.name, message)

    def _clean(self, nodes: Sequence[Node], registered: Mapping[str, Node]) -> dict[str, Exception]:
        """Take away what EVC has put on nodes; returns for each where something is left, by name, why."""
        problems: dict[str, Exception] = {}
        to_clean = []
        for node in nodes:
            now_there = next((other for other in registered.values() if _way(other) == _way(node)), None)
            if now_there is None or now_there.id == node.id:
                to_clean.append(node)
            elif now_there.host_key is None:
                problems[node.name] = NodeError(f"{now_there.name} is registered at its address, not contacted yet")
            elif now_there.host_key == node.host_key:
                self.log.info("%s: the same machine is registered as %s: left to that", node.name, now_there.name)
            else:
                problems[node.name] = NodeError(f"another machine, {now_there.name}, is registered at its address")
        problems.update(asyncio.run(self._remove_containers(to_clean, registered)))
        if self._is_stopped:
            raise Stopped("stopped; what is left to do stays noted")
        to_log_out = [node for node in to_clean if node.name not in problems]
        problems.update(self._log_out(to_log_out, registered))
        return problems

    def _log_out(self, nodes: Sequence[Node], registered: Mapping[str, Node]) -> dict[str, Exception]:
        """Run del_cert.yaml: it removes logins of the node's own account only, whoever else is logged in there."""
        if not nodes:
            return {}
        others = [other for other in registered.values() if other.id not in {node.id for node in nodes}]
        report = self.playbooks.run(
            PLAYBOOK,
            nodes,
            others,
            variables={"registry_address": self._address()},
            host_secrets={node.name: {"registry_account": node_login(int(node.id or 0))} for node in nodes},
        )
        return {
            result.host: PlaybookFailed(str(result))
            if result.status is Status.FAILED
            else NodeError(str(result.message))
            for result in report.failures()
        }

    def _address(self) -> str:
        try:
            return self.registry.pull_address if self.registry.is_configured else ""
        except InputError as error:
            self.log.warning("%s", error)
            return ""

    # -- containers ------------------------------------------------------------------------------------------------

    async def _remove_containers(self, nodes: Sequence[Node], registered: Mapping[str, Node]) -> dict[str, Exception]:
        settings = self.fleet.settings
        pool = Pool(self.fleet.nodes_hook.credentials, connect_timeout_s=settings.connect_timeout_s)
        places = asyncio.Semaphore(AT_ONCE)

        async def one(node: Node) -> Exception | None:
            async with places:
                try:
                    async with asyncio.timeout(CLEAN_TIMEOUT_S):
                        await self._remove_containers_of(pool, node, registered)
                except TimeoutError:
                    return NodeError(f"{node.name}: did not answer within {CLEAN_TIMEOUT_S:g} s")
                except (NodeError, CredentialsError) as error:
                    return error
                except EvcError:
                    raise  # of ours: it concerns every node
                except Exception as error:
                    # whatever a node answers, the others have their turn
                    log.error("%s: error of EVC itself", node.name, exc_info=error)
                    return NodeError(f"{node.name}: error of EVC itself: {type(error).__name__}")
                return None

        try:
            found = await asyncio.gather(*(one(node) for node in nodes))
        finally:
            await pool.close()
        return {node.name: error for node, error in zip(nodes, found, strict=True) if error}

    async def _remove_containers_of(self, pool: Pool, node: Node, registered: Mapping[str, Node]) -> None:
        """Remove every container that EVC has made on a node.

        :raises NodeError: no answer; or no engine answers, although EVC has made containers there
        """
        session, _ = await pool.session(node, registered)
        with self.fleet.engine.connect() as connection:
            expected = had_containers(connection, int(node.id or 0))
        try:
            async with connect(session) as engine:
                for container in await engine.containers({CONFIG_LABEL: ""}):
                    name = str((container.get("Names") or ["?"])[0]).lstrip("/")
                    try:
                        await engine.remove(str(container["Id"]))
                    except EngineError as error:
                        if error.status != _CONFLICT:  # another removal is in progress
                            raise
                    self.log.info("%s: container %s removed", node.name, name)
        except EngineAway:
            if expected:
                raise
            self.log.info("%s: no Docker Engine answers, and no container of EVC was ever there", node.name)


def _way(node: Node) -> tuple[str, int, str | None]:
    return node.host, node.port, node.jump_node


def _leave(connection: Connection, node: Node, status: str) -> None:
    ts = int(time.time())
    now = find_node(connection, node.name)
    if now is None or now.id != node.id:
        raise InputError("name", f"{quote(node.name)} is being changed by someone else", "once more, in a moment")
    node_id = remove_node(connection, node.name, ts, status)
    forget_node(connection, node_id, ts)
    if status == REMOVED:
        record_event(connection, node_id, "removed", "info", "removed from the fleet", ts)
