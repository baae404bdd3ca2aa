"""A node's own account at the registry: what lies in the Docker configuration of its login.

The plain password exists nowhere but there. An engine that is asked over its API does not read that file, so it is read
here and sent along; a revoked account is thus refused just as ``docker pull`` on the node would be.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from evc.engine.client import Auth
from evc.errors import ConnectionCut, NodeRefused, NodeTimeout
from evc.ssh.session import Ended, Session

_COMMAND = """exec /bin/sh -c 'exec cat "${DOCKER_CONFIG:-$HOME/.docker}/config.json" 2>/dev/null'"""
_TIMEOUT_S = 15.0
_MAX_BYTES = 1_000_000
_HOW = "register the node again: copy_cert.yaml writes it"


async def node_auth(session: Session, pull_address: str) -> Auth:
    """Return the account that the node's login has at ``pull_address``, ``host:port``.

    :raises NodeRefused: it has none, or keeps it where only a program of its own can read it
    """
    reply = await session.run(_COMMAND, timeout_s=_TIMEOUT_S, max_bytes=_MAX_BYTES)
    if reply.ended is Ended.CUT:
        raise ConnectionCut(f"{session.node.name}: the connection to the node was cut")
    if reply.ended is Ended.TIMEOUT:
        raise NodeTimeout(f"{session.node.name}: its Docker configuration was not read within {_TIMEOUT_S:g} s")
    try:
        if reply.status != 0:
            raise MissingAccount(f"its login has no ~/.docker/config.json; {_HOW}")
        return read_account(reply.stdout, pull_address)
    except MissingAccount as missing:
        refused = NodeRefused(f"{session.node.name}: account: {missing}")
        refused.checks = ("account",)
        raise refused from None


class MissingAccount(Exception):
    """Why there is no account; holds no secret."""


def read_account(content: bytes, pull_address: str) -> Auth:
    """Find an account in a Docker configuration file, docker-login(1)."""
    try:
        config = json.loads(content)
    except (ValueError, RecursionError):
        raise MissingAccount(f"~/.docker/config.json is not JSON; {_HOW}") from None
    entry = _entry(_mapping(config, "auths"), pull_address)
    account = _of_entry(entry)
    if account is not None:
        return account
    if _mapping(config, "credHelpers").get(pull_address) or (isinstance(config, dict) and config.get("credsStore")):
        raise MissingAccount(
            f"~/.docker/config.json leaves the account at {pull_address} to a credential helper, which is not asked; "
            f"write it into auths, or {_HOW}"
        )
    raise MissingAccount(f"~/.docker/config.json has no account at {pull_address}; {_HOW}")


def _mapping(config: Any, key: str) -> Mapping[str, Any]:
    value = config.get(key) if isinstance(config, dict) else None
    return value if isinstance(value, dict) else {}


def _entry(auths: Mapping[str, Any], address: str) -> Mapping[str, Any]:
    """Find the entry of an address: older clients wrote it as URL."""
    for name, entry in auths.items():
        host = name.partition("://")[2] or name
        if host.partition("/")[0] == address and isinstance(entry, dict):
            return entry
    return {}


def _of_entry(entry: Mapping[str, Any]) -> Auth | None:
    username, password = entry.get("username"), entry.get("password")
    if isinstance(entry.get("auth"), str):
        try:
            username, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
        except ValueError:
            return None
    if isinstance(username, str) and isinstance(password, str) and username and password:
        return {"username": username, "password": password}
    return None
