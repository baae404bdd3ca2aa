"""Airflow connections as their environment variables hold them, read without Airflow: a URI, or JSON.

Source: Airflow, "Managing Connections", ``AIRFLOW_CONN_*``; what ``Connection.get_uri`` and ``as_json`` write.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from evc.errors import InputError

_ESCAPED = "HOST:PORT; in a user or password '/', '@', ':' and '#' as %2F, %40, %3A and %23"


def read_connection(where: str, value: str, allowed: str) -> dict[str, Any]:
    """Return ``conn_type``, ``host``, ``port``, ``login``, ``password``, ``schema`` and ``extra`` of a connection.

    Of JSON whatever is there; ``extra`` is always a mapping.

    :param where: names the connection in errors
    :param allowed: what would be right
    :raises InputError: it can't be read; the message never shows the value
    """
    return _from_json(where, value, allowed) if value.lstrip().startswith("{") else _from_uri(where, value, allowed)


def _from_json(where: str, value: str, allowed: str) -> dict[str, Any]:
    try:
        given = dict(json.loads(value))
    except ValueError:
        raise InputError(where, "it begins with '{' but is not JSON", allowed) from None
    return {**given, "extra": _extra(where, given.get("extra") or {})}


def _from_uri(where: str, value: str, allowed: str) -> dict[str, Any]:
    value = value.strip()
    scheme, separator, _ = value.partition("://")
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        raise InputError(where, "it is neither a URI nor JSON", allowed)
    try:
        parts = urlsplit(value)
        login, _, address = parts.netloc.rpartition("@")
        host, port = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::(\d+))?", address).groups()  # type: ignore[union-attr]
    except (ValueError, AttributeError):
        raise InputError(where, "its host and port can't be read", _ESCAPED) from None
    if parts.fragment:
        raise InputError(where, "it holds a '#'", _ESCAPED)
    user, _, password = login.partition(":")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    return {
        "conn_type": scheme,
        "host": unquote(host.strip("[]")),
        "port": port,
        "login": unquote(user),
        "password": unquote(password),
        "schema": unquote(parts.path[1:]),
        "extra": _extra(where, options.get("__extra__", options)),
    }


def _extra(where: str, given: Any) -> dict[str, str]:
    """Return the options of a connection: a mapping, or, where Airflow wrote them so, a mapping as JSON."""
    try:
        extra = json.loads(given) if isinstance(given, str) else given
        said = {str(name): value for name, value in extra.items() if value is not None}
        if all(isinstance(value, str | int | float) for value in said.values()):
            return {name: str(value) for name, value in said.items()}
    except (ValueError, AttributeError):
        pass
    raise InputError(where, "its 'extra' is not a mapping of names to texts", 'such as {"name": "text"}')
