"""A node, and what a user may say of one.

The patterns are also the JSON schema of the DAGs' params, so a bad value is refused before a run starts, and again
here, where a value comes from an inventory.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from evc.errors import InputError

NAME_PATTERN = r"^[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$"
GROUP_PATTERN = r"^[A-Za-z_][A-Za-z0-9_-]{0,62}$"
HOST_PATTERN = r"^[A-Za-z0-9:](?:[A-Za-z0-9_.:%-]{0,251}[A-Za-z0-9])?$"
USER_PATTERN = r"^[A-Za-z_][A-Za-z0-9_.-]{0,30}\$?$"
CONN_ID_PATTERN = r"^[A-Za-z0-9_.-]{1,250}$"
LABEL_PATTERN = r"^[A-Za-z_][A-Za-z0-9_.-]{0,62}$"
HOST_KEY_PATTERN = r"^(?:ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)) [A-Za-z0-9+/]{40,2000}={0,2}$"
THERMAL_UNITS = ("millidegree_celsius", "deci_kelvin")
DEFAULT_CONN_ID = "evc_nodes"
RESERVED_NAMES = frozenset({"all", "ungrouped", "localhost"})
MAX_TEXT = 500

_WORDS = {
    "name": (
        NAME_PATTERN,
        "1 to 63 ASCII letters, digits, '-', '_' or '.', a letter or digit first and last"
        " (other scripts fit 'address' and 'labels')",
    ),
    "groups": (GROUP_PATTERN, "1 to 63 ASCII letters, digits, '-' or '_', no digit or '-' first"),
    "host": (HOST_PATTERN, "a DNS name, an IPv4 or an IPv6 address"),
    "user": (USER_PATTERN, "a login name of at most 31 ASCII letters, digits, '-', '_' or '.'"),
    "conn_id": (CONN_ID_PATTERN, "the id of an Airflow connection"),
    "host_key": (
        HOST_KEY_PATTERN,
        "one public key as in known_hosts: its type and its base64, e.g. 'ssh-ed25519 AAAA...'",
    ),
}


@dataclass(frozen=True, slots=True)
class Node:
    """One node as a user registers it.

    :param user: login name; None means the login of its connection
    :param host_key: ``TYPE BASE64``; None means: pin at first contact
    :param jump_node: name of the registered node through which this one is reached
    :param id: key in the ``nodes`` table; None where it is not stored yet
    """

    name: str
    host: str
    port: int = 22
    user: str | None = None
    groups: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str | None = None
    host_key: str | None = None
    conn_id: str = DEFAULT_CONN_ID
    jump_node: str | None = None
    thermal_unit: str = THERMAL_UNITS[0]
    id: int | None = None


def quote(value: object) -> str:
    """Return ``value`` as one short printable line for an error message."""
    text = json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 80 else f"{text[:70]}... ({len(text)} characters)"


def without_name(name: str, message: str) -> str:
    """Return what ``message`` says of the node ``name``: an event names its node by itself."""
    return message.removeprefix(f"{name}: ")


def few(names: Iterable[str]) -> str:
    """Return the first 20 of ``names``, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - 20} more" if len(listed) > 20 else ""
    return (", ".join(listed[:20]) or "nothing") + more


def _match(where: str, value: Any, word: str) -> str:
    pattern, allowed = _WORDS[word]
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise InputError(where, f"{quote(value)} does not fit", allowed)
    return value


def _name(where: str, value: Any) -> str:
    name = _match(where, value, "name")
    if name.lower() in RESERVED_NAMES:
        raise InputError(where, f"{quote(name)} has a meaning of its own in Ansible", "any other name")
    return name


def _host(value: Any) -> str:
    host = _match("host", value, "host")
    if ":" in host or re.fullmatch(r"[0-9.]+", host):
        try:
            ipaddress.ip_address(host.split("%")[0])
        except ValueError:
            raise InputError("host", f"{quote(host)} is not an IP address", _WORDS["host"][1]) from None
    return host


def _port(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
        raise InputError("port", f"{quote(value)} is not a port", "a whole number from 1 to 65535")
    return value


def _host_key(value: Any) -> str:
    key = _match("host_key", value, "host_key")
    kind, text = key.split()
    try:
        blob = base64.b64decode(text, validate=True)
    except ValueError:
        blob = b""
    # RFC 4253, 6.6: the blob begins with the length and the name of the key's type
    if blob[4 : 4 + len(kind)] != kind.encode("ascii") or int.from_bytes(blob[:4], "big") != len(kind):
        raise InputError("host_key", f"{quote(key)} is not a key of type {kind}", _WORDS["host_key"][1])
    return key


def _may_be_written(character: str) -> bool:
    code = ord(character)
    return code >= 32 and code != 127 and not 0xD800 <= code <= 0xDFFF  # half of a pair is no UTF-8


def _text(where: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT or not all(map(_may_be_written, value)):
        raise InputError(where, f"{quote(value)} does not fit", f"one line of at most {MAX_TEXT} printable characters")
    return value.strip()


def _groups(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise InputError("groups", f"{quote(value)} is not a list", "a list of group names")
    for group in value:
        _match("groups", group, "groups")
        if group in RESERVED_NAMES:
            raise InputError("groups", f"{quote(group)} has a meaning of its own in Ansible", "any other name")
    return tuple(sorted(set(value)))


def _labels(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise InputError("labels", f"{quote(value)} is not a mapping", 'names and texts, e.g. {"site": "Suwon"}')
    for key, text in value.items():
        if not isinstance(key, str) or not re.fullmatch(LABEL_PATTERN, key):
            raise InputError("labels", f"the name {quote(key)} does not fit", "ASCII letters, digits, '-', '_' or '.'")
        _text(f"labels.{key}", text)
    return dict(sorted(value.items()))


def make_node(given: Mapping[str, Any]) -> Node:
    """Return the node that ``given`` describes, keys as in :class:`Node`; None and ``""`` mean not given.

    :raises InputError: the first value that does not fit, an unknown key, or a missing ``name`` or ``host``
    """
    allowed = set(Node.__dataclass_fields__) - {"id"}
    for key in given:
        if key not in allowed:
            raise InputError(quote(key), "is not known", ", ".join(sorted(allowed)))
    known = {key: value for key, value in given.items() if value is not None and value != ""}
    for key in ("name", "host"):
        if key not in known:
            raise InputError(key, "is missing", _WORDS[key][1])
    thermal_unit = known.get("thermal_unit", THERMAL_UNITS[0])
    if thermal_unit not in THERMAL_UNITS:
        raise InputError("thermal_unit", f"{quote(thermal_unit)} is not a unit", " or ".join(THERMAL_UNITS))
    name = _name("name", known["name"])
    jump_node = _name("jump_node", known["jump_node"]) if "jump_node" in known else None
    if jump_node == name:
        raise InputError("jump_node", f"{quote(name)} is the node itself", "another registered node")
    groups = _groups(known.get("groups", ()))
    if name in groups:
        raise InputError("groups", f"{quote(name)} is the node's own name", "a group of another name")
    return Node(
        name=name,
        host=_host(known["host"]),
        port=_port(known.get("port", 22)),
        user=_match("user", known["user"], "user") if "user" in known else None,
        groups=groups,
        labels=_labels(known.get("labels", {})),
        address=(_text("address", known["address"]) or None) if "address" in known else None,
        host_key=_host_key(known["host_key"]) if "host_key" in known else None,
        conn_id=_match("conn_id", known.get("conn_id", DEFAULT_CONN_ID), "conn_id"),
        jump_node=jump_node,
        thermal_unit=thermal_unit,
    )


def jump_path(node: Node, nodes: Mapping[str, Node]) -> list[Node]:
    """Return the nodes to pass on the way to ``node``, the nearest to us first; empty where it is reached directly.

    :param nodes: every registered node by name
    :raises InputError: a jump node that is not registered, or a circle
    """
    path: list[Node] = []
    seen = {node.name}
    name = node.jump_node
    while name is not None:
        if name in seen:
            raise InputError(
                "jump_node", f"{quote(name)} closes a circle", "a chain of nodes that ends in a direct one"
            )
        if name not in nodes:
            raise InputError("jump_node", f"{quote(name)} is not a registered node", "the name of a registered node")
        seen.add(name)
        path.append(nodes[name])
        name = nodes[name].jump_node
    return path[::-1]


def check_free(node: Node, registered: Mapping[str, Node]) -> None:
    """Refuse a node whose name or address is another's.

    :param registered: every registered node by name; the node itself, by name and address, may be among them
    :raises InputError: naming who has it
    """

    def way(of: Node) -> tuple[str, int, str | None]:
        return of.host, of.port, of.jump_node

    known = registered.get(node.name)
    if known and way(known) != way(node):
        wrong = f"{quote(node.name)} is registered at {known.host} port {known.port}"
        raise InputError("name", wrong, "another name, or remove_node first")
    for other in registered.values():
        if other.name != node.name and way(other) == way(node):
            wrong = f"{node.host} port {node.port} is registered as {quote(other.name)}"
            raise InputError("host", wrong, "another address, or remove_node first")


def select(
    nodes: Iterable[Node],
    names: Iterable[str] = (),
    groups: Iterable[str] = (),
    labels: Mapping[str, str] = MappingProxyType({}),
) -> list[Node]:
    """Return the nodes named, or in one of the groups; all where neither is given.

    :param labels: of these only the nodes that bear all of these
    :raises InputError: a name or group that no node has, labels that none of the nodes bears
    """
    nodes = list(nodes)
    names, groups = set(names), set(groups)
    unknown = names - {node.name for node in nodes}
    if unknown:
        raise InputError("nodes", f"{quote(sorted(unknown))} not registered", "names of registered nodes")
    empty = groups - {group for node in nodes for group in node.groups}
    if empty:
        raise InputError("groups", f"{quote(sorted(empty))} without a node", "groups of registered nodes")
    if names or groups:
        nodes = [node for node in nodes if node.name in names or groups & set(node.groups)]
    chosen = [node for node in nodes if labels.items() <= node.labels.items()]
    if nodes and not chosen:
        raise InputError(
            "labels", f"{quote(dict(labels))} is on none of {len(nodes)} nodes", "labels that a node bears"
        )
    return chosen
