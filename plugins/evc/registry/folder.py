"""The registry's folder: authority, certificates, accounts and configuration of both faces, images.

::

    ca.crt  ca.key                        the authority: to trust, and to sign with
    server.crt  server.key                what both faces present
    read-write.yml  read-write.htpasswd   the face of builders and of EVC itself
    pull-only.yml   pull-only.htpasswd    the face of nodes: same images, pushing and deleting refused
    connection.json                       Airflow connection evc_registry: the read-write account's password
    storage/                              the images

Configurations name all of it by relative paths: the registry is started in the folder, wherever that is mounted.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from string import Template
from typing import Any

import yaml

from evc.errors import InputError
from evc.fleet.nodes import quote
from evc.registry.accounts import Accounts
from evc.registry.authority import RENEW_BEFORE, SERVER_VALID, Authority, Certificate, check_name, check_names
from evc.registry.files import locked, read_file, replace_file

PORT = 5000
PULL_PORT = 5001
LOGIN = "evc"
TEMPLATE = Path(__file__).parents[3] / "include" / "registry" / "config.yml"
LOCK_FILE = ".init.lock"


@dataclass(frozen=True, slots=True)
class Face:
    """One way into the storage.

    :param name: ``read-write`` or ``pull-only``
    :param folder: the registry's
    """

    name: str
    folder: Path

    @property
    def config_file(self) -> Path:
        """What ``docker-registry serve`` is started with, in the registry's folder."""
        return self.folder / f"{self.name}.yml"

    @property
    def accounts(self) -> Accounts:
        """Who may log in."""
        return Accounts(self.folder / f"{self.name}.htpasswd")

    def port(self) -> int | None:
        """Return where it listens; None where it has no configuration yet.

        :raises InputError: the configuration does not say
        """
        text = read_file(self.config_file)
        if text is None:
            return None
        try:
            port = int(str(yaml.safe_load(text)["http"]["addr"]).rpartition(":")[2])
        except (yaml.YAMLError, LookupError, TypeError, ValueError):
            raise InputError(
                str(self.config_file), "its http.addr can't be read", 'e.g. addr: ":5000"; or move the file away'
            ) from None
        return port

    def configure(self, port: int, *, read_only: bool) -> None:
        """Write its configuration from the template; a former one is kept as ``.previous``.

        :raises InputError: the template is not there, or the folder may not be written
        """
        template = read_file(TEMPLATE)
        if template is None:
            raise InputError("registry template", f"there is no {TEMPLATE}", "EVC with its folder include/")
        former = read_file(self.config_file)
        if former is not None:
            replace_file(self.config_file.with_suffix(".yml.previous"), former)
        values = {
            "port": port,
            "secret": secrets.token_hex(32),
            "read_only": str(read_only).lower(),
            "purges": str(not read_only).lower(),
            "realm": f"EVC registry, {self.name}",
            "accounts": self.accounts.path.name,
        }
        replace_file(self.config_file, Template(template.decode()).substitute(values))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What ``evc registry init`` is asked for; None and empty mean: as it is, else the default.

    :param names: DNS names and IP addresses of the registry; the first is the one in the names of images
    :param port: of the read-write face
    :param pull_port: of the pull-only face
    :param pull_address: ``host:port`` as nodes reach the pull-only face; default: first name and ``pull_port``
    :param renew: a new server certificate, also where the present one is good for long
    :param new_password: a new password of the read-write account
    """

    names: Sequence[str] = ()
    port: int | None = None
    pull_port: int | None = None
    pull_address: str | None = None
    renew: bool = False
    new_password: bool = False


@dataclass(slots=True)
class Made:
    """What ``init`` found and did.

    :param address: ``host:port`` of the read-write face
    :param pull_address: ``host:port`` of the pull-only face, as nodes reach it
    :param certificate: the server's
    :param done: one line for each thing that was made or changed; empty where all was there
    :param restart: the registry has to be started again, if it runs, for it to count
    """

    address: str
    pull_address: str
    certificate: Certificate
    done: list[str]
    restart: bool


@dataclass(slots=True)
class _Work:
    done: list[str] = field(default_factory=list)
    restart: bool = False


class RegistryFolder:
    """What ``evc registry init`` makes and keeps. :param path: the folder"""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.authority = Authority(path)
        self.read_write = Face("read-write", path)
        self.pull_only = Face("pull-only", path)
        self.connection_file = path / "connection.json"
        self.storage = path / "storage"

    @property
    def ca_file(self) -> Path:
        """What engines and clients have to trust."""
        return self.authority.ca_file

    def connection(self) -> dict[str, Any] | None:
        """Return the Airflow connection as a mapping, password included; None where there is none.

        :raises InputError: the file is not what ``init`` writes
        """
        text = read_file(self.connection_file)
        if text is None:
            return None
        try:
            found = json.loads(text)
            if isinstance(found["extra"], dict) and isinstance(found["password"], str):
                return dict(found)
        except (ValueError, LookupError, TypeError):
            pass
        raise InputError(
            str(self.connection_file), "is not a connection", "what init wrote; or remove it: init makes a new account"
        )

    def init(self, wanted: Wanted, now: datetime | None = None) -> Made:
        """Make what is missing, renew what is due, change what is asked for, keep all else. Safe to run at any time.

        Killed at any point, the next run completes it.

        :raises InputError: a value that does not fit, or a folder that can't be written; nothing that was there is lost
        """
        now = now or datetime.now(UTC)
        self._plan(wanted)  # what does not fit leaves not even a folder behind
        self._make_folders()
        work = _Work()
        with locked(self.path / LOCK_FILE):
            names, ports, addresses = self._plan(wanted)
            self._keep_authority(work, now)
            certificate = self._keep_certificate(work, names, wanted.renew, now)
            self._keep_faces(work, ports)
            self._keep_account(work, addresses, ports[1], wanted.new_password)
        return Made(*addresses, certificate, work.done, work.restart)

    # -- what is wanted --------------------------------------------------------------------------------------------

    def _plan(self, wanted: Wanted) -> tuple[tuple[str, ...], tuple[int, int], tuple[str, str]]:
        """Return names, ports and addresses of the two faces as they shall be."""
        names, ports = self._names(wanted), self._ports(wanted)
        return names, ports, (f"{names[0]}:{ports[0]}", self._pull_address(wanted, names, ports))

    def _names(self, wanted: Wanted) -> tuple[str, ...]:
        present = self.authority.server()
        names = check_names(wanted.names or (present.names if present else ()))
        if ":" in names[0]:
            raise InputError(
                "--name", f"{quote(names[0])} comes first", "a DNS name or an IPv4 address first: engines need one"
            )
        return names

    def _ports(self, wanted: Wanted) -> tuple[int, int]:
        _check_ports(wanted)
        port = wanted.port or self.read_write.port() or PORT
        pull_port = wanted.pull_port or self.pull_only.port() or PULL_PORT
        if port == pull_port:
            raise InputError(
                "--port and --pull-port", f"both are {port}", "two ports: each face is a server of its own"
            )
        return port, pull_port

    def _pull_address(self, wanted: Wanted, names: Sequence[str], ports: tuple[int, int]) -> str:
        if wanted.pull_address is not None:
            return _check_address("--pull-address", wanted.pull_address, names)
        connection = self.connection() or {"extra": {}}
        present, pull_port = (connection["extra"].get(key) for key in ("pull_address", "pull_port"))
        if present is None or present == f"{connection.get('host')}:{pull_port}":
            return f"{names[0]}:{ports[1]}"
        # someone gave another one once: nodes reach the registry by it
        return _check_address(f"{self.connection_file}: pull_address", str(present), names)

    # -- what there is ---------------------------------------------------------------------------------------------

    def _make_folders(self) -> None:
        for folder in (self.path, self.storage):
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(
                    "registry folder", f"{folder}: {error.strerror}", "a folder that can be made"
                ) from None

    def _keep_authority(self, work: _Work, now: datetime) -> None:
        if self.authority.make(now):
            work.done.append(f"made a certificate authority: {self.ca_file}")
        key_file = self.authority.ca_key_file
        if key_file.stat().st_mode & 0o077:
            key_file.chmod(0o600)
            work.done.append(f"closed {key_file} to others")
        authority = self.authority.authority()
        if authority and authority.expires - now < SERVER_VALID:
            work.done.append(f"note: the authority itself ends on {authority.expires:%Y-%m-%d} (docs/registry.md)")

    def _keep_certificate(self, work: _Work, names: tuple[str, ...], renew: bool, now: datetime) -> Certificate:
        present = self.authority.server()
        why = ""
        if present is None:
            why = "made"
        elif present.names != names:
            why = "made anew, for other names,"
        elif present.expires - now < RENEW_BEFORE:
            why = "renewed, as it was about to expire," if present.expires > now else "renewed, as it had expired,"
        elif renew:
            why = "renewed"
        if why:
            self.authority.issue(names, now=now)
            work.restart = present is not None
            work.done.append(f"{why} the server certificate for {', '.join(names)}")
        current = self.authority.server()
        if current is None:
            raise InputError(
                str(self.authority.server_file), "was changed meanwhile", "one `evc registry init` at a time"
            )
        return current

    def _keep_faces(self, work: _Work, ports: tuple[int, int]) -> None:
        for face, port in zip((self.read_write, self.pull_only), ports, strict=True):
            # before the configuration: without its file the registry makes one itself, with an account of its own
            if read_file(face.accounts.path) is None:
                replace_file(face.accounts.path, "")
                work.done.append(f"made the {face.name} face's accounts: {face.accounts.path}")
            former = face.port()
            if former == port:
                continue
            face.configure(port, read_only=face is self.pull_only)
            work.restart = work.restart or former is not None
            kept = "" if former is None else f"; the former one is {face.config_file.name}.previous"
            work.done.append(f"made the {face.name} face's configuration, port {port}: {face.config_file}{kept}")

    def _keep_account(self, work: _Work, addresses: tuple[str, str], pull_port: int, renew: bool) -> None:
        """Let the connection's file and the read-write face's accounts agree."""
        present = self.connection() or {}
        login, password = present.get("login", LOGIN), present.get("password")
        accounts = self.read_write.accounts
        if renew or not password or not accounts.knows(login, password):
            password = accounts.grant(login)
            work.done.append(f"made a password for the read-write account {login}")
        # pull_port only tells the next run whether pull_address is a person's choice
        extra = {"ca_path": str(self.ca_file.absolute()), "pull_address": addresses[1], "pull_port": pull_port}
        extra = {**present.get("extra", {}), **extra}
        wanted = {**present, **_connection(addresses[0], login, str(password)), "extra": extra}
        if wanted != present:
            replace_file(self.connection_file, json.dumps(wanted, indent=2) + "\n")
            work.done.append(f"wrote the Airflow connection, which Airflow needs anew: {self.connection_file}")


def _connection(address: str, login: str, password: str) -> dict[str, Any]:
    host, _, port = address.rpartition(":")
    return {"conn_type": "docker", "host": host, "port": int(port), "login": login, "password": password}


def _check_ports(wanted: Wanted) -> None:
    for option, port in (("--port", wanted.port), ("--pull-port", wanted.pull_port)):
        if port is not None and not 1 <= port <= 65535:
            raise InputError(option, f"{port} is not a port", "a whole number from 1 to 65535")


def _check_address(where: str, address: str, names: Sequence[str]) -> str:
    host, _, port = address.rpartition(":")
    if not re.fullmatch(r"[1-9][0-9]{0,4}", port) or int(port) > 65535:
        raise InputError(where, f"{quote(address)} does not fit", "HOST:PORT")
    if check_name(where, host) not in names:
        raise InputError(where, f"{quote(host)} is no name of the certificate", f"one of {', '.join(names)}")
    return f"{host.lower()}:{port}"
