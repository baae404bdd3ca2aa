"""An Ansible inventory (``hosts.ini``) from nodes, and nodes from an inventory that Ansible has read.

Source: Ansible's INI inventory plugin. It splits a host's line as a shell would, then reads every value as a Python
literal, so ``1`` and ``True`` are no strings, and takes what has ``{{`` in it for a template that it runs. What a user
wrote is text and comes out of Ansible as that text.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evc.errors import InputError
from evc.fleet import openssh
from evc.fleet.nodes import MAX_TEXT, RESERVED_NAMES, THERMAL_UNITS, Node, jump_path, make_node, quote
from evc.fleet.openssh import Login

FIRST_LINE = "# Written by Edge Vision Cluster from its nodes table at every change: edits are lost."
MAX_HOSTS = 100_000

_HEADER = (
    FIRST_LINE,
    "# Change nodes with register_node and remove_node; give ansible hosts of your own with a second -i.",
    "# A node without a pinned host key is refused until its first sweep has pinned it.",
)
# text that Ansible's literal reader leaves alone: a word, a path, an IP address
_PLAIN = re.compile(
    r"(?!(?:True|False|None)$)(?:[A-Za-z/][A-Za-z0-9_/:.-]*|\d+\.\d+\.\d+\.\d+|[0-9a-fA-F]*:[0-9a-fA-F:.]+)"
)
_OPENERS = ("{{", "{%", "{#")
_BRACE = '{{ "{" }}'  # a template whose result is one brace
_RANGE = re.compile(r"\[(\w+):(\w+)(?::(\d+))?\]")


@dataclass(slots=True)
class Imported:
    """What could be made of an inventory.

    :param nodes: in the order of the inventory
    :param refused: hosts that can't be nodes and why, one line each
    :param problems: what was not imported of hosts that are, one line each, without any value that may be secret
    """

    nodes: list[Node] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def render(
    nodes: Iterable[Node],
    logins: Mapping[str, Login],
    known_hosts_file: str,
    *,
    only: Collection[str] | None = None,
) -> str:
    """Return the text of ``hosts.ini``; with the file of :func:`openssh.known_hosts` it is all that ``ansible`` needs.

    A node whose way is broken (a jump node that is not registered, a circle, too long a chain) is left out, with a
    comment that says so.

    :param logins: by ``conn_id``; a connection that is not in it gives neither user nor key
    :param known_hosts_file: absolute path
    :param only: names of nodes that become hosts; the others are there for the way through jump nodes. None means all
    :raises InputError: a path that cannot be given to ssh
    """
    by_name = {node.name: node for node in sorted(nodes, key=lambda node: node.name)}
    lines: list[str] = []
    groups: dict[str, list[str]] = {}
    for node in by_name.values():
        if only is not None and node.name not in only:
            continue
        try:
            path = jump_path(node, by_name)
            openssh.check_length(path)
        except InputError as error:
            lines.append(f"# left out: {node.name}: {error}")
            continue
        variables = _host_variables(node, path, logins, known_hosts_file)
        lines.append(" ".join([node.name, *(f"{key}={_value(value)}" for key, value in variables.items())]))
        for group in node.groups:
            groups.setdefault(group, []).append(node.name)
    sections = [["", f"[{group}]", *names] for group, names in sorted(groups.items())]
    checked = ["", "[all:vars]", "ansible_host_key_checking=True"]  # else an ansible.cfg could turn the pinning off
    return "\n".join([*_HEADER, "", *lines, *(line for section in sections for line in section), *checked, ""])


def _host_variables(
    node: Node, path: Sequence[Node], logins: Mapping[str, Login], known_hosts_file: str
) -> dict[str, Any]:
    login = logins.get(node.conn_id, Login())
    arguments = openssh.options(node, login, known_hosts_file)
    proxy = openssh.proxy_command(path, logins, known_hosts_file)
    if proxy:
        arguments += ["-o", f"ProxyCommand={proxy}"]
    variables: dict[str, Any] = {
        "ansible_host": node.host,
        "ansible_port": node.port,
        "ansible_user": node.user or login.user,
        "ansible_ssh_private_key_file": openssh.path_value(login.key_file) if login.key_file else None,
        "ansible_ssh_executable": login.program if login.program != "ssh" else None,
        "ansible_ssh_common_args": shlex.join(arguments),
        "ansible_control_path": f"%(directory)s/{openssh.control_path(node, path)}",
        "evc_conn_id": node.conn_id,
        "evc_user_of_connection": True if node.user is None and login.user else None,
        "evc_jump_node": node.jump_node,
        "evc_thermal_unit": node.thermal_unit if node.thermal_unit != THERMAL_UNITS[0] else None,
        "evc_host_key": node.host_key,
        "evc_address": node.address,
        "evc_labels": dict(node.labels) or None,
    }
    return {key: value for key, value in variables.items() if value is not None}


def _value(value: str | int | Mapping[str, str]) -> str:
    """Return ``value`` as the INI plugin reads it back: one word of a shell, then one Python literal."""
    if isinstance(value, str):
        text = _escape(value)
        return text if _PLAIN.fullmatch(text) else f"'{_literal(text)}'"
    if isinstance(value, Mapping):
        pairs = (f"{_literal(key)}: {_literal(_escape(text))}" for key, text in value.items())
        return f"'{{{', '.join(pairs)}}}'"
    return str(value)


def _literal(text: str) -> str:
    return '"' + "".join(_character(one) for one in text) + '"'


def _character(one: str) -> str:
    if one == "'":
        return "\\x27"  # so that the whole fits between single quotes of the line
    if one in '"\\':
        return f"\\{one}"
    return one if one.isprintable() else f"\\U{ord(one):08x}"


def _escape(text: str) -> str:
    """Return ``text`` so that Ansible's templating yields it again, where it would take it for a template."""
    return text.replace("{", _BRACE) if any(opener in text for opener in _OPENERS) else text


def untemplated(value: Any) -> Any:
    """Return ``value``, lists and mappings included, so that Ansible's templating yields it as it is."""
    if isinstance(value, str):
        return _escape(value)
    if isinstance(value, Mapping):
        return {key: untemplated(one) for key, one in value.items()}
    return [untemplated(one) for one in value] if isinstance(value, list | tuple) else value


def _unescape(text: str) -> str:
    """Undo :func:`_escape`.

    :raises InputError: a template that is not of our making
    """
    if any(opener in text.replace(_BRACE, "") for opener in _OPENERS):
        raise InputError("value", "is a template", "a plain text")
    return text.replace(_BRACE, "{")


_SSH_CONNECTIONS = frozenset(
    {"ssh", "smart", "paramiko", "paramiko_ssh", "ansible.builtin.ssh", "ansible.builtin.paramiko_ssh"}
)
# what a variable of an inventory means for a node, the first that is there; the older names are Ansible's own
_MEANINGS = {
    "host": ("ansible_host", "ansible_ssh_host"),
    "port": ("ansible_port", "ansible_ssh_port"),
    "user": ("ansible_user", "ansible_ssh_user"),
    "conn_id": ("evc_conn_id",),
    "jump_node": ("evc_jump_node",),
    "thermal_unit": ("evc_thermal_unit",),
    "host_key": ("evc_host_key",),
    "address": ("evc_address",),
}
_KNOWN = frozenset(name for names in _MEANINGS.values() for name in names) | {
    "ansible_connection",
    "evc_labels",
    "evc_user_of_connection",
}
_OURS = frozenset(
    {"ansible_ssh_private_key_file", "ansible_ssh_common_args", "ansible_control_path", "ansible_host_key_checking"}
)
_SECRET_NAME = re.compile(
    r"pass(?!ive|enger)|pwd|secret|token|vault|private_key(?!_file)|api_?key|credential|community", re.IGNORECASE
)
# what Ansible quotes of an inventory in its message
_PIECE = re.compile(r"got: (?P<got>.*)$|'(?P<pattern>.*?)'(?= supplied)|'(?P<line>.*)'")
_SECRET_TEXT = re.compile(r"\$ANSIBLE_VAULT|-----BEGIN|://[^/\s]*:[^/\s]*@")


def check_ranges(text: str, where: str) -> None:
    """Refuse an inventory whose ranges, such as ``cam[001:250]``, stand for more hosts than Ansible could hold.

    :raises InputError: the line with more than ``MAX_HOSTS``
    """
    for number, line in enumerate(text.splitlines(), 1):
        pattern = line.split(maxsplit=1)[0] if line.strip() else ""
        if pattern.startswith(("[", "#", ";")) or "=" in pattern:
            continue
        ends = [(first, last) for first, last, _ in _RANGE.findall(pattern) if first.isdecimal() and last.isdecimal()]
        count = math.prod(max(int(last[:18]) - int(first[:18]) + 1, 1) for first, last in ends)
        if count > MAX_HOSTS:
            raise InputError(
                f"{where}:{number}", f"{quote(pattern)} stands for too many hosts", f"at most {MAX_HOSTS:,} a line"
            )


def reason(stderr: str, text: str) -> str:
    """Return why ``ansible-inventory`` could not read an inventory, in one line that repeats nothing of its content.

    Ansible quotes the piece it stumbled over, which may be a part of a password, and does not always name the line: the
    line is found by that piece.

    :param stderr: of ``ansible-inventory``
    :param text: of the inventory
    """
    message = (
        _last(r"Failed to parse inventory: (.*)", stderr)
        or _last(r"\[ERROR\]: (.*)", stderr)
        or "Ansible cannot read it"
    )
    piece = _PIECE.search(message)
    line = _last(r"Origin: .*?:(\d+)", stderr)
    if piece:
        message = message[: piece.start()].rstrip(" :,") + message[piece.end() :]
        fragment = piece["got"] or piece["pattern"] or piece["line"]
        numbers = [str(number) for number, one in enumerate(text.splitlines(), 1) if fragment and fragment in one]
        line = line or " or ".join(numbers[:3]) or None
    return f"line {line}: {message}" if line else message


def _last(pattern: str, text: str) -> str | None:
    found = re.findall(pattern, text)
    return found[-1].strip() if found else None


def from_ansible(data: Mapping[str, Any]) -> Imported:
    """Return the nodes in ``data``, the output of ``ansible-inventory --list``.

    A variable that says nothing of how to reach the node becomes a label where it is one line of text or a number.
    Passwords, and whatever looks like a secret, are named and left where they are.
    """
    imported = Imported()
    notes: dict[str, list[str]] = {}
    addresses: dict[tuple[str, int, str | None], str] = {}
    variables = data.get("_meta", {}).get("hostvars", {})
    for name, groups in _memberships(data, variables).items():
        try:
            node = _node(name, groups, variables.get(name, {}), notes)
        except InputError as error:
            imported.refused.append(f"{quote(name)}: {error}")
            continue
        other = addresses.setdefault((node.host, node.port, node.jump_node), node.name)
        if other == node.name:
            imported.nodes.append(node)
        else:
            imported.refused.append(f"{quote(name)}: {node.host} port {node.port} is {quote(other)} already")
    imported.problems += [f"{reason}: {_enumerate(names)}" for reason, names in notes.items()]
    return imported


def _enumerate(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _memberships(data: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, set[str]]:
    """Return the groups of every host, with the parents of each group."""
    parents: dict[str, set[str]] = {}
    for group, content in data.items():
        for child in content.get("children", ()) if group != "_meta" else ():
            parents.setdefault(child, set()).add(group)
    groups_of: dict[str, set[str]] = {}
    for group, content in data.items():
        for host in content.get("hosts", ()) if group != "_meta" else ():
            groups_of.setdefault(host, set()).update(_with_parents(group, parents))
    for host in variables:
        groups_of.setdefault(host, set())
    return {host: groups - RESERVED_NAMES for host, groups in groups_of.items()}


def _with_parents(group: str, parents: Mapping[str, set[str]]) -> set[str]:
    found, waiting = set[str](), [group]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += parents.get(one, ())
    return found


def _node(name: str, groups: Iterable[str], variables: Mapping[str, Any], notes: dict[str, list[str]]) -> Node:
    connection = variables.get("ansible_connection", "ssh")
    if connection not in _SSH_CONNECTIONS:
        raise InputError("ansible_connection", f"{quote(connection)} is not SSH", "ssh")
    given: dict[str, Any] = {"name": name, "host": name}
    for key, names in _MEANINGS.items():
        found = next((variables[one] for one in names if variables.get(one) not in (None, "")), None)
        if found is not None:
            given[key] = _plain(key, found)
    if variables.get("evc_user_of_connection") is True:
        given.pop("user", None)
    make_node(given)  # before the notes: a host that is not imported has one line, with the reason
    given["groups"] = [
        group
        for group in sorted(groups)
        if _fits({"groups": [group]}, name, f"group {quote(group)} not imported", notes)
    ]
    given["labels"] = _labels(name, variables, notes)
    return make_node(given)


def _plain(key: str, value: Any) -> Any:
    if isinstance(value, Mapping) and "__ansible_vault" in value:
        raise InputError(key, "is encrypted by Ansible Vault", "a plain text")
    if isinstance(value, str):
        try:
            value = _unescape(value)
        except InputError:
            raise InputError(key, f"{quote(value)} is a template", "a plain text") from None
    if key == "port" and isinstance(value, str) and re.fullmatch("[0-9]{1,5}", value):
        return int(value)
    return str(value) if key == "user" and isinstance(value, int) else value


def _labels(name: str, variables: Mapping[str, Any], notes: dict[str, list[str]]) -> dict[str, str]:
    ours = variables.get("evc_labels", {})
    if not isinstance(ours, Mapping):
        raise InputError("evc_labels", "is not a mapping", 'names and texts, e.g. {"site": "Suwon"}')
    written_by_us = "evc_conn_id" in variables
    labels: dict[str, str] = {}
    for key, value in variables.items():
        if key in _KNOWN or (written_by_us and key in _OURS):
            continue
        reason = _why_not(key, value)
        if reason:
            notes.setdefault(f"{key} not imported, {reason}", []).append(name)
            continue
        text = _text(value)
        if _fits({"labels": {key: text}}, name, f"{key} not imported, no label can hold it", notes):
            labels[key] = text
    return labels | {key: _plain(f"evc_labels.{key}", text) for key, text in ours.items()}


def _text(value: str | int | float | bool) -> str:
    if isinstance(value, str):
        return _unescape(value).strip()
    return json.dumps(value)


def _why_not(key: str, value: Any) -> str | None:
    """Return why a variable cannot become a label, or None. The value is never part of it."""
    if _SECRET_NAME.search(key) or (isinstance(value, str) and _SECRET_TEXT.search(value)):
        return "it looks like a secret"
    if isinstance(value, Mapping) and "__ansible_vault" in value:
        return "it is encrypted by Ansible Vault"
    if key.startswith("ansible_"):
        return "it is Ansible's own: an Airflow connection (conn_id) holds keys, jump_node says the way"
    if not isinstance(value, (str, int, float)):
        return f"labels are texts of at most {MAX_TEXT} characters"
    if isinstance(value, str):
        try:
            _unescape(value)
        except InputError:
            return "it is a template"
    return None


def _fits(given: Mapping[str, Any], name: str, reason: str, notes: dict[str, list[str]]) -> bool:
    try:
        make_node({"name": name, "host": "localhost", **given})
    except InputError:
        notes.setdefault(reason, []).append(name)
        return False
    return True
