"""Connections of type ``ssh``: the logins to nodes."""

from __future__ import annotations

from collections.abc import Iterable

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from evc.errors import CredentialsError
from evc.ssh.credentials import Credentials, load_credentials


class NodesHook(BaseHook):
    """Reads logins from Airflow's connections, each once.

    Extra: ``key_file`` or ``private_key``, ``private_key_passphrase``; the fields of Airflow's own SSH connection.
    """

    conn_name_attr = "conn_id"
    default_conn_name = "evc_nodes"
    conn_type = "ssh"
    hook_name = "EVC nodes"

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[str, Credentials | CredentialsError] = {}

    def credentials(self, conn_id: str) -> Credentials:
        """Return the login that ``conn_id`` names.

        :raises CredentialsError: no such connection, or its key can't be read
        """
        if conn_id not in self._known:
            try:
                self._known[conn_id] = self._load(conn_id)
            except CredentialsError as error:
                self._known[conn_id] = error
        known = self._known[conn_id]
        if isinstance(known, CredentialsError):
            raise known
        return known

    def load(self, conn_ids: Iterable[str]) -> dict[str, Credentials]:
        """Return those of the logins that can be used; a broken one raises when it is asked for by name."""
        usable = {}
        for conn_id in sorted(set(conn_ids)):
            try:
                usable[conn_id] = self.credentials(conn_id)
            except CredentialsError as error:
                self.log.error("%s", error)
        return usable

    def _load(self, conn_id: str) -> Credentials:
        try:
            connection = self.get_connection(conn_id)
        except AirflowNotFoundException:
            raise CredentialsError(f"connection {conn_id}: not defined; add it as type ssh (docs/nodes.md)") from None
        extra = connection.extra_dejson
        return load_credentials(
            conn_id,
            login=connection.login,
            password=connection.password or None,
            key_file=extra.get("key_file"),
            private_key=extra.get("private_key"),
            passphrase=extra.get("private_key_passphrase") or extra.get("passphrase"),
        )
