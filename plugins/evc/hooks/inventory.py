"""``hosts.ini`` on disk: written from the nodes table, read through Ansible's own parser, imported into the store.

Imports nothing of Airflow: the caller says where the file is and what the connections hold.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sqlalchemy import Connection

from evc.errors import InputError
from evc.fleet import inventory, openssh
from evc.fleet.inventory import Imported
from evc.fleet.nodes import DEFAULT_CONN_ID, THERMAL_UNITS, Node, jump_path, quote
from evc.fleet.openssh import Login
from evc.ssh.credentials import Credentials
from evc.store import nodes as stored

LOCK_TIMEOUT_S = 30.0
READ_TIMEOUT_S = 60.0
MAX_BYTES = 16 * 1024 * 1024


def known_hosts_file(hosts_ini: Path) -> Path:
    """Return where the pinned keys of ``hosts_ini`` are: beside it, under a name that is no one else's."""
    return hosts_ini.with_name(f"{hosts_ini.name}.known_hosts")


def write_inventory(
    hosts_ini: Path,
    read_nodes: Callable[[], Sequence[Node]],
    read_credentials: Callable[[Iterable[str]], Mapping[str, Credentials]],
    *,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
) -> int:
    """Write ``hosts_ini`` and its ``known_hosts`` from the nodes; return how many nodes there are.

    Each file is replaced at once, keys first, so a reader never sees half a file nor a node without its key. Of several
    writers the last one reads the nodes last, under the lock: commit your change of them before the call.

    :param read_nodes: reads the nodes table, called while the lock is held
    :param read_credentials: those of some ``conn_id`` that can be used; only login name and path of the key are written
    :raises InputError: a folder, a missing or unwritable folder, a file not of EVC, a lock not free in time
    """
    hosts_ini = hosts_ini.absolute()
    with _file_errors(hosts_ini):
        hosts_ini = hosts_ini.resolve() if hosts_ini.is_symlink() else hosts_ini
        _check_writable(hosts_ini)
        with _lock(hosts_ini.with_name(f".{hosts_ini.name}.lock"), lock_timeout_s):
            nodes = list(read_nodes())
            known = read_credentials(sorted({node.conn_id for node in nodes}))
            logins = {conn_id: _login(credentials) for conn_id, credentials in known.items()}
            keys_file = known_hosts_file(hosts_ini)
            _replace(keys_file, openssh.known_hosts(nodes))
            _replace(hosts_ini, inventory.render(nodes, logins, str(keys_file)))
    return len(nodes)


def _login(credentials: Credentials) -> Login:
    key_file = credentials.key_file
    return Login(credentials.login, str(Path(key_file).expanduser().absolute()) if key_file else None)


def _check_writable(hosts_ini: Path) -> None:
    where = f"hosts_ini {str(hosts_ini)!r}"
    if hosts_ini.is_dir():
        raise InputError(where, "is a folder", "the path of a file, e.g. that folder and hosts.ini in it")
    if not hosts_ini.parent.is_dir():
        raise InputError(where, "its folder does not exist", "a file in a folder that exists")
    if hosts_ini.exists():
        if not hosts_ini.is_file():
            raise InputError(where, "is not a regular file", "the path of a file")
        with hosts_ini.open("rb") as file:
            start = file.readline(len(inventory.FIRST_LINE) * 4).strip()
        if start and start != inventory.FIRST_LINE.encode():
            raise InputError(
                where, "was not written by EVC and stays as it is", "another path; import_inventory reads this one"
            )


@contextlib.contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        wrong = f"cannot be used: {error.strerror}"
        raise InputError(
            f"hosts_ini {str(path)!r}", wrong, "a file this user may read and write, on a disk with room"
        ) from error


@contextlib.contextmanager
def _lock(path: Path, timeout_s: float) -> Iterator[None]:
    deadline = time.monotonic() + timeout_s
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    wrong = f"another process holds it for {timeout_s:g} s"
                    raise InputError(f"lock {str(path)!r}", wrong, "one writer at a time") from None
                time.sleep(0.02)
        yield


def _replace(path: Path, text: str) -> None:
    content = text.encode()
    if path.is_file() and path.read_bytes() == content:
        return
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), 0o644)  # no secret in it, and ansible may run as another user
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_inventory(path: Path, *, timeout_s: float = READ_TIMEOUT_S) -> Imported:
    """Return the nodes of an existing INI inventory, as ``ansible-inventory`` reads it: ranges, groups, children, vars.

    Nothing in the file or beside it is run: no script, no other inventory plugin, no ``ansible.cfg``, no template.
    ``group_vars`` and ``host_vars`` beside it are read, unless a file of them is encrypted.

    :raises InputError: no readable file of an INI inventory with a host in it; with the line where that is known
    """
    path = path.absolute()
    where = f"path {str(path)!r}"
    text = _text_of(path, where)
    inventory.check_ranges(text, where)
    done = _ansible_inventory(path, where, timeout_s)
    encrypted = done.returncode != 0 and "no vault secrets" in done.stderr
    if encrypted:
        done = _ansible_inventory(path, where, timeout_s, ANSIBLE_VARS_ENABLED="")
    if done.returncode != 0:
        raise InputError(where, inventory.reason(done.stderr, text), "an INI inventory that ansible-inventory reads")
    imported = inventory.from_ansible(json.loads(done.stdout))
    if not imported.nodes and not imported.problems:
        raise InputError(where, "has no host in it", "an INI inventory with at least one host")
    if encrypted:
        imported.problems.append("group_vars and host_vars not imported: encrypted by Ansible Vault")
    return imported


def _text_of(path: Path, where: str) -> str:
    allowed = "the path of an INI inventory of Ansible"
    if "," in str(path):
        raise InputError(where, "has a comma, which Ansible takes for a list of hosts", "a path without a comma")
    try:
        if path.is_dir():
            raise InputError(where, "is a folder", allowed)
        if path.exists() and not path.is_file():
            raise InputError(where, "is not a regular file", allowed)
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(where, f"cannot be read: {error.strerror}", allowed) from error
    if len(content) > MAX_BYTES:
        raise InputError(where, "is too large", f"at most {MAX_BYTES // 1024**2} MiB")
    return _decoded(content, where, allowed)


def _decoded(content: bytes, where: str, allowed: str) -> str:
    if b"\0" in content:
        raise InputError(where, "is a binary file", allowed)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(where, f"line {line} is not UTF-8", "an INI inventory in UTF-8") from error
    if not text.strip():
        raise InputError(where, "is empty", "an INI inventory with at least one host")
    return text


def _ansible_inventory(path: Path, where: str, timeout_s: float, **settings: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(Path(sys.executable).with_name("ansible-inventory")), "-i", str(path), "--list"]
    with tempfile.TemporaryDirectory(prefix="evc-inventory-") as folder:
        try:
            return subprocess.run(  # noqa: S603  no shell, and argv is ours but for the path
                argv,
                env=_environment(Path(folder)) | settings,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise InputError(where, f"Ansible did not read it in {timeout_s:g} s", "a smaller inventory") from None


def _environment(folder: Path) -> dict[str, str]:
    """Return all that Ansible sees of this process: none of its settings, none of its secrets."""
    config = folder / "ansible.cfg"
    config.touch()
    return {
        "PATH": os.defpath,
        "HOME": str(folder),
        "ANSIBLE_HOME": str(folder),
        "ANSIBLE_CONFIG": str(config),
        "ANSIBLE_INVENTORY_ENABLED": "ini",
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "True",
        "ANSIBLE_NOCOLOR": "True",
        "LC_ALL": "C.UTF-8",
    }


@dataclass(slots=True)
class Outcome:
    """What an import did, by node name; ``refused`` has one line for each node, with the reason."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def import_nodes(connection: Connection, imported: Imported, ts: int) -> Outcome:
    """Store the nodes of an inventory; none is contacted, so a new one has its host key pinned at its first sweep.

    What the inventory says of a node that is registered at the same address is added to what is known; what it does not
    say stays. So a second import of the same file changes nothing. The transaction is the caller's.

    :param ts: now, unix seconds
    """
    outcome = Outcome()
    registered = {node.name: node for node in stored.list_nodes(connection)}
    names = {_address(node): node.name for node in registered.values()}
    for node in _jump_nodes_first(imported.nodes):
        known = registered.get(node.name)
        try:
            _check(node, known, names.get(_address(node)), registered)
            merged = _merge(known, node) if known else node
            if merged == known:
                outcome.unchanged.append(node.name)
                continue
            stored.store_node(connection, merged, ts)
        except InputError as error:
            outcome.refused.append(f"{node.name}: {error}")
            continue
        registered[node.name] = merged
        names[_address(node)] = node.name
        (outcome.changed if known else outcome.added).append(node.name)
    return outcome


def _address(node: Node) -> tuple[str, int, str | None]:
    return node.host, node.port, node.jump_node


def _check(node: Node, known: Node | None, taken_by: str | None, registered: Mapping[str, Node]) -> None:
    if known and _address(known) != _address(node):
        raise InputError("name", f"{quote(node.name)} is registered at {known.host} port {known.port}", "another name")
    if taken_by not in (None, node.name):
        raise InputError("host", f"{node.host} port {node.port} is registered as {quote(taken_by)}", "another address")
    if known and node.host_key and known.host_key not in (None, node.host_key):
        raise InputError(
            "host_key", "is not the one that is pinned", "the pinned key, or register_node with the new one"
        )
    jump_path(node, {**registered, node.name: node})


def _merge(known: Node, new: Node) -> Node:
    return replace(
        known,
        user=new.user or known.user,
        groups=tuple(sorted({*known.groups, *new.groups})),
        labels=dict(sorted({**known.labels, **new.labels}.items())),
        address=new.address or known.address,
        host_key=new.host_key or known.host_key,
        conn_id=new.conn_id if new.conn_id != DEFAULT_CONN_ID else known.conn_id,
        thermal_unit=new.thermal_unit if new.thermal_unit != THERMAL_UNITS[0] else known.thermal_unit,
    )


def _jump_nodes_first(nodes: Sequence[Node]) -> list[Node]:
    """Return ``nodes`` so that each comes after the node it is reached through, as far as that is among them."""
    by_name = {node.name: node for node in nodes}

    def depth(node: Node) -> int:
        steps, seen = 0, set[str]()
        while node.jump_node in by_name and node.name not in seen:
            seen.add(node.name)
            node, steps = by_name[node.jump_node], steps + 1
        return steps

    return sorted(nodes, key=depth)
