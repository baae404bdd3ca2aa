"""The connection ``evc_registry``, wherever it was read: host, port and account of the read-write face.

Extra: ``ca_path``, the ``ca.crt`` of ``evc registry init`` (without it, what the system trusts); ``pull_address``,
``host:port`` of the pull-only face as nodes reach it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evc.errors import InputError
from evc.fleet.nodes import quote
from evc.registry.client import RegistryClient
from evc.registry.folder import PORT

ALLOWED = "what `evc registry init` wrote (docs/registry.md)"
ADDRESS = "HOST:PORT, the host a DNS name or an IPv4 address"
_ADDRESS = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?:[1-9][0-9]{0,4}")


@dataclass(frozen=True, slots=True)
class RegistryConnection:
    """What it says.

    :param address: ``host:port`` of the read-write face
    :param ca_path: file of the authority to trust; None: what the system trusts
    :param pull_address: ``host:port`` of the pull-only face; None: it does not say
    """

    address: str
    login: str
    password: str = field(repr=False)
    ca_path: str | None
    pull_address: str | None

    def client(self) -> RegistryClient:
        """Return a client of the read-write face, to be used as a context manager.

        :raises InputError: ``ca_path`` can't be read
        """
        return RegistryClient(self.address, self.login, self.password, self.ca_path)


def registry_connection(where: str, given: Mapping[str, Any]) -> RegistryConnection:
    """Return the connection that ``given`` describes: ``host``, ``port``, ``login``, ``password``, ``extra``.

    :param where: names it in errors
    :raises InputError: a field that does not fit; the message never shows the password
    """
    if not given.get("login") or not given.get("password"):
        raise InputError(where, "has no login or no password", "the read-write account, as in connection.json")
    extra = given.get("extra") or {}
    pull_address = extra.get("pull_address")
    return RegistryConnection(
        _address(where, "its host and port", f"{given.get('host') or ''}:{given.get('port') or PORT}"),
        str(given["login"]),
        str(given["password"]),
        extra.get("ca_path") or None,
        None if pull_address is None else _address(where, "pull_address", str(pull_address)),
    )


def _address(where: str, what: str, address: str) -> str:
    if not _ADDRESS.fullmatch(address) or int(address.rpartition(":")[2]) > 65535:
        raise InputError(where, f"{what}, {quote(address)}, do not fit", ADDRESS)
    return address
