"""A node's own login at the private registry: granted, copied there by ``copy_cert.yaml``, and tried from there."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from evc.engine.account import node_auth
from evc.engine.client import connect
from evc.errors import EngineAway, InputError
from evc.fleet.log import Log
from evc.fleet.nodes import Node, quote
from evc.hooks.playbooks import PlaybooksHook
from evc.hooks.registry import RegistryHook
from evc.registry.accounts import node_login
from evc.ssh.pool import Pool
from evc.store.events import record_event
from evc.store.nodes import find_node, set_facts

LOGIN_EVENT = "registry_login"
NEEDS_NOTHING = "the node is registered all the same; models need a registry and an engine"
PLAYBOOK = "copy_cert"


class LoginsHook:
    """Gives nodes their login; one object serves one task.

    :param log: the task's own log
    :param playbooks: what runs Ansible, so that the caller can stop it
    """

    def __init__(self, log: Log, playbooks: PlaybooksHook) -> None:
        self.log = log
        self.playbooks = playbooks
        self.registry = RegistryHook()

    def copy(self, name: str) -> str | None:
        """Let a node pull: a new account with a new password, the CA and the login on the node, tried from there.

        A former password stops counting. Killed anywhere and repeated it ends the same.

        :return: None, or why the node needs no login
        :raises InputError: no such node, or the registry's folder can't be written
        :raises PlaybookFailed: the node could not be given its login; the message says where and why
        :raises NodeError: the login does not work from the node
        """
        nodes = {node.name: node for node in self.playbooks.nodes()}
        node = nodes.get(name)
        if node is None or node.id is None:
            raise InputError("name", f"{quote(name)} is not registered", "the name of a registered node")
        if not self.registry.is_configured:
            return f"no registry is configured (connection {self.registry.conn_id}); {NEEDS_NOTHING}"
        address = self.registry.pull_address
        authority = self._authority()
        version = asyncio.run(self._engine_version(node, nodes))
        if version is None:
            return f"{name}: no Docker Engine answers there; {NEEDS_NOTHING}"
        password = self.registry.grant(node.id)
        with self.playbooks.engine.begin() as connection:
            # before anything is on the node: its removal will look for it there
            record_event(connection, node.id, LOGIN_EVENT, "info", f"login at {address}", int(time.time()))
            set_facts(connection, node.id, {"engine_version": version})
        variables = {
            "registry_address": address,
            "registry_account": node_login(node.id),
            "registry_ca": authority,
        }
        report = self.playbooks.run(
            PLAYBOOK, [node], nodes.values(), variables=variables, secrets={"registry_password": password}
        )
        self._still_registered(node)
        report.raise_failures()
        asyncio.run(self._try(node, nodes, address))
        return None

    def _authority(self) -> str:
        """Return the CA's certificate; empty where none is needed: where the system's own authorities are trusted, and
        on the registry's own machine, for engines ask nobody whether to trust 127.0.0.0/8.
        """
        path = self.registry.ca_path
        if path is None or self.registry.pull_address.startswith("127."):
            return ""
        try:
            return Path(path).expanduser().read_text(encoding="ascii")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a text file"
            where = f"connection {self.registry.conn_id}: ca_path {path}"
            raise InputError(where, str(reason), "the ca.crt that `evc registry init` made") from None

    def _still_registered(self, node: Node) -> None:
        """Take the account back where the node was removed while it was granted."""
        with self.playbooks.engine.connect() as connection:
            now = find_node(connection, node.name)
        if now is None or now.id != node.id:
            self.registry.revoke(int(node.id or 0))
            raise InputError("name", f"{quote(node.name)} was removed meanwhile", "a registered node")

    def _pool(self) -> Pool:
        hook = self.playbooks
        return Pool(hook.nodes_hook.credentials, connect_timeout_s=hook.settings.connect_timeout_s)

    async def _engine_version(self, node: Node, nodes: dict[str, Node]) -> str | None:
        """Ask the engine itself: the facts know it only where a docker client is installed too."""
        pool = self._pool()
        try:
            session, _ = await pool.session(node, nodes)
            async with connect(session) as engine:
                return str((await engine.version()).get("Version", ""))[:64] or None
        except EngineAway as error:
            self.log.info("%s", error)
            return None
        finally:
            await pool.close()

    async def _try(self, node: Node, nodes: dict[str, Node], address: str) -> None:
        pool = self._pool()
        try:
            session, _ = await pool.session(node, nodes)
            auth = await node_auth(session, address)
            async with connect(session) as engine:
                await engine.log_in(address, auth)
        finally:
            await pool.close()
        # the name is what the node says: quoted, it can't be taken for a line of ours
        who = quote(auth["username"])
        self.log.info("%s: logged in at %s as %s: tried by its own engine", node.name, address, who)
