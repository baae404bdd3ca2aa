"""What OpenSSH's client must be told to reach a node: as arguments, and as a ``known_hosts`` file.

A node's key is pinned under an alias made of its name, never under its address: two sites may use the same private
addresses behind two jump nodes. Checking is strict for every node, so one that is not pinned yet is refused until the
first contact of EVC has pinned it; this client never pins on its own.

Source: ssh(1), ssh_config(5) (TOKENS, ENVIRONMENT VARIABLES), sshd(8) (SSH_KNOWN_HOSTS FILE FORMAT).
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from evc.errors import InputError
from evc.fleet.nodes import Node, quote

CONNECT_TIMEOUT_S = 10
MAX_JUMPS = 6


@dataclass(frozen=True, slots=True)
class Login:
    """What of an Airflow connection may be written into a file: no password, no key, only where the key is.

    :param user: login name of the nodes that name none
    :param key_file: absolute path of the private key; None where the connection has none in a file
    :param program: what is run in place of ``ssh``, absolute path: a wrapper that adds options of its own
    :param is_batch: it asks nobody anything; a wrapper that answers for a password needs to be asked
    """

    user: str | None = None
    key_file: str | None = None
    program: str = "ssh"
    is_batch: bool = True


def host_key_alias(name: str) -> str:
    """Return the name under which the key of node ``name`` is pinned.

    OpenSSH folds case here, our names do not: an upper-case letter is marked, so ``Cam`` and ``cam`` stay two.
    """
    return re.sub("[A-Z]", lambda letter: f"+{letter[0].lower()}", name)


def known_hosts(nodes: Iterable[Node]) -> str:
    """Return the text of a ``known_hosts`` file with the pinned keys of ``nodes``, sorted by name."""
    pinned = sorted((node for node in nodes if node.host_key), key=lambda node: node.name)
    lines = [f"{host_key_alias(node.name)} {node.host_key}" for node in pinned]
    return "\n".join(
        ["# Written by Edge Vision Cluster: the host keys it has pinned, by node. Edits are lost.", *lines, ""]
    )


def path_value(path: str) -> str:
    """Return ``path`` as it stands between the double quotes of an option's value.

    :raises InputError: a path that ssh cannot be told: with ``${`` or a control character
    """
    if "${" in path or not path.isprintable():
        raise InputError("path", f"{quote(path)} cannot be given to ssh", "a path without '${' and control characters")
    return path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")


def options(node: Node, login: Login, known_hosts_file: str) -> list[str]:
    """Return the arguments that say how ``node`` is checked, without its address, its login and the way to it."""
    said = [
        f'UserKnownHostsFile="{path_value(known_hosts_file)}"',
        "GlobalKnownHostsFile=/dev/null",
        "StrictHostKeyChecking=yes",
        f"HostKeyAlias={host_key_alias(node.name)}",
    ]
    if login.key_file:
        said.append("IdentitiesOnly=yes")  # the keys of a running ssh-agent would use up the node's MaxAuthTries first
    return [argument for option in said for argument in ("-o", option)]


def check_length(path: Sequence[Node]) -> None:
    """Refuse a chain of more than ``MAX_JUMPS`` jump nodes: each one quotes those before it once more.

    :raises InputError: a longer one
    """
    if len(path) > MAX_JUMPS:
        raise InputError("jump_node", f"{len(path)} nodes on the way", f"at most {MAX_JUMPS}")


def proxy_command(path: Sequence[Node], logins: Mapping[str, Login], known_hosts_file: str) -> str | None:
    """Return the value of ``ProxyCommand`` that leads through ``path``, the nearest node first; None for an empty path.

    ssh replaces ``%`` tokens in the value and gives it to a shell, so every argument is quoted for the shell and every
    ``%`` of ours doubled, once for each node it passes.
    """
    value: str | None = None
    for node in path:
        login = logins.get(node.conn_id, Login())
        argv = [
            login.program,
            *options(node, login, known_hosts_file),
            *(["-o", "BatchMode=yes"] if login.is_batch else []),
            "-o",
            f"ConnectTimeout={CONNECT_TIMEOUT_S}",
        ]
        if login.key_file:
            argv += ["-o", f'IdentityFile="{path_value(login.key_file)}"']
        if value is not None:
            argv += ["-o", f"ProxyCommand={value}"]
        user = node.user or login.user
        argv += [*(["-l", user] if user else []), "-p", str(node.port)]
        ours = shlex.join(argv).replace("%", "%%")
        value = f"{ours} -W '[%h]:%p' -- {shlex.quote(node.host).replace('%', '%%')}"
    return value


def control_path(node: Node, path: Sequence[Node]) -> str:
    """Return a name for the shared connection to ``node`` that no other node, way or host key has, of 16 characters.

    Ansible's own is made of address, port and user, which two nodes behind two jump nodes may share: it would run the
    tasks of the one on the other.
    """
    steps = ((step.name, step.host, step.port, step.user, step.conn_id, step.host_key) for step in (*path, node))
    return hashlib.sha256(repr(tuple(steps)).encode()).hexdigest()[:16]
