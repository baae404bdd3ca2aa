"""Connection ``evc_registry``: the private registry; and its folder, where nodes' accounts are kept."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret

from evc.errors import InputError
from evc.hooks.settings import settings, state_folder
from evc.registry.accounts import node_login
from evc.registry.client import RegistryClient
from evc.registry.connection import ADDRESS, ALLOWED, RegistryConnection, registry_connection
from evc.registry.folder import RegistryFolder


class RegistryHook(BaseHook):
    """Reads the connection: see :mod:`evc.registry.connection`.

    :raises InputError: from whatever needs the connection where it is not defined, or a field of it does not fit
    """

    conn_name_attr = "conn_id"
    default_conn_name = "evc_registry"
    conn_type = "docker"
    hook_name = "EVC registry"

    def __init__(self, conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.conn_id = conn_id

    @property
    def is_configured(self) -> bool:
        """Whether the connection is defined: without it EVC watches nodes and does nothing with images."""
        try:
            self.get_connection(self.conn_id)
        except AirflowNotFoundException:
            return False
        return True

    @property
    def address(self) -> str:
        """The read-write face, ``host:port``: the first part of names of images that builders push."""
        return self._given.address

    @property
    def auth(self) -> dict[str, str]:
        """The read-write account as engines want it: ``username``, ``password``."""
        return {"username": self._given.login, "password": self._given.password}

    @property
    def ca_path(self) -> str | None:
        """The file that holds the authority to trust; None: what the system trusts."""
        return self._given.ca_path

    @property
    def pull_address(self) -> str:
        """The pull-only face as nodes reach it, ``host:port``: the first part of names of images on nodes.

        :raises InputError: the connection does not say
        """
        if self._given.pull_address is None:
            raise self._wrong("its extra names no pull_address", ADDRESS)
        return self._given.pull_address

    def client(self) -> RegistryClient:
        """Return a client of the read-write face, to be used as a context manager."""
        return self._given.client()

    # -- accounts of nodes -----------------------------------------------------------------------------------------

    @cached_property
    def folder(self) -> RegistryFolder:
        """What ``evc registry init`` made: ``[evc] registry_folder``."""
        of = settings()
        given = of.registry_folder
        return RegistryFolder(Path(given).expanduser() if given else state_folder(of) / "registry")

    def grant(self, node_id: int) -> str:
        """Give a node a new account on the pull-only face; returns its password, masked in the task's log.

        A former one stops counting.

        :raises InputError: the registry's folder is not there or can't be written
        """
        password = self.folder.pull_only.accounts.grant(node_login(node_id))
        mask_secret(password)
        return password

    def revoke(self, node_id: int) -> bool:
        """Take a node's account away: its next pull is refused. False where it had none.

        :raises InputError: the registry's folder is not there or can't be written
        """
        return self.folder.pull_only.accounts.revoke(node_login(node_id))

    # -- the connection --------------------------------------------------------------------------------------------

    @cached_property
    def _given(self) -> RegistryConnection:
        try:
            connection = self.get_connection(self.conn_id)
        except AirflowNotFoundException:
            raise self._wrong("is not defined", ALLOWED) from None
        if connection.password:
            mask_secret(connection.password)
        fields = {name: getattr(connection, name) for name in ("host", "port", "login", "password")}
        return registry_connection(f"connection {self.conn_id}", {**fields, "extra": connection.extra_dejson})

    def _wrong(self, wrong: str, allowed: str) -> InputError:
        return InputError(f"connection {self.conn_id}", wrong, allowed)
