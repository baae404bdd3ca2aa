"""The registry of a test fleet: as ``evc registry init`` makes it, reached by nodes and by this machine alike."""

from __future__ import annotations

import base64
import ssl
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from evc.registry import folder as made
from tests.servers.registry_faces import RegistryServer
from tests.servers.sshd import free_port

NAME = "registry.fleet.test"


@dataclass(frozen=True, slots=True)
class Account:
    """Who may log in to a face."""

    login: str
    password: str

    def basic(self) -> str:
        """Return both as HTTP's basic authentication and Docker's config.json have them."""
        return base64.b64encode(f"{self.login}:{self.password}".encode()).decode()


@dataclass(frozen=True, slots=True)
class Face:
    """One of the two ways into the storage.

    :param account: one that may log in from the start
    """

    name: str
    port: int
    account: Account
    made: made.Face

    @property
    def htpasswd(self) -> Path:
        """Its accounts, bcrypt; a change takes effect at once."""
        return self.made.accounts.path

    @property
    def log_file(self) -> Path:
        """What it says, requests included."""
        return self.made.folder / f"{self.made.name}.log"

    def add_account(self, login: str) -> Account:
        """Let ``login`` in with a new password."""
        return Account(login, self.made.accounts.grant(login))

    def remove_account(self, login: str) -> None:
        """Let ``login`` in no more."""
        self.made.accounts.revoke(login)


@dataclass(slots=True)
class Registry:
    """Both faces over one storage, on every address of this machine.

    :param host: the address at which nodes and this machine alike reach it; the certificate names it
    :param push: the read-write face
    :param pull: the pull-only face: pushing and deleting answer 405
    :param name: the name under which nodes reach it too
    """

    server: RegistryServer
    host: str
    push: Face
    pull: Face
    name: str = NAME

    @property
    def folder(self) -> Path:
        """What ``evc registry init`` made."""
        return self.server.folder.path

    @property
    def ca_file(self) -> Path:
        """The certificate of who signed the server's."""
        return self.server.folder.ca_file

    @property
    def storage(self) -> Path:
        """Where blobs and manifests lie."""
        return self.server.folder.storage

    def address(self, face: Face, host: str | None = None) -> str:
        """Return ``HOST:PORT``, the first part of the names of images there."""
        return f"{host or self.host}:{face.port}"

    def start(self) -> None:
        """Start both faces, where they do not run, and wait until they listen."""
        if not self.server.processes:
            self.server.start()

    def stop(self) -> None:
        """End both faces by their pids; what is stored stays."""
        self.server.stop()

    def renew_certificate(self, valid: timedelta = timedelta(days=30)) -> None:
        """Serve a new server certificate of the same authority; a negative time: one that has expired."""
        self.stop()
        self.server.folder.authority.issue(_names(self.host), valid=valid)
        self.start()

    def tls_context(self) -> ssl.SSLContext:
        """Return a client's context that trusts this authority and no other."""
        return ssl.create_default_context(cafile=str(self.ca_file))


def make_registry(path: Path, host: str) -> Registry:
    """Make a registry at the address ``host``; start it by yourself."""
    folder = made.RegistryFolder(path)
    folder.init(made.Wanted(names=_names(host), port=free_port(), pull_port=free_port()))
    connection = folder.connection()
    assert connection
    builder = Account(connection["login"], connection["password"])
    edge = Account("edge", folder.pull_only.accounts.grant("edge"))
    return Registry(
        RegistryServer(folder),
        host,
        Face("push", _port(folder.read_write), builder, folder.read_write),
        Face("pull", _port(folder.pull_only), edge, folder.pull_only),
    )


def _names(host: str) -> list[str]:
    return [host, NAME, "localhost", "127.0.0.1"]


def _port(face: made.Face) -> int:
    port = face.port()
    assert port
    return port
