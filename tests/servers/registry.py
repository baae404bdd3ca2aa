"""A real image registry with TLS: one storage, a read-write face and a pull-only face, each with its own accounts."""

from __future__ import annotations

import base64
import ipaddress
import json
import secrets
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import bcrypt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.servers.programs import program

NAME = "registry.fleet.test"
_START_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class Account:
    """Who may log in to a face."""

    login: str
    password: str

    def basic(self) -> str:
        """Return both as HTTP's basic authentication and Docker's config.json have them."""
        return base64.b64encode(f"{self.login}:{self.password}".encode()).decode()


@dataclass(slots=True)
class Face:
    """One of the two ways into the storage: its port, configuration, accounts and process.

    :param account: one that may log in from the start
    """

    name: str
    port: int
    folder: Path
    account: Account
    process: subprocess.Popen[bytes] | None = None

    @property
    def config_file(self) -> Path:
        """The configuration it is started with."""
        return self.folder / f"{self.name}.yml"

    @property
    def htpasswd(self) -> Path:
        """Its accounts, bcrypt; a change takes effect at once."""
        return self.folder / f"{self.name}.htpasswd"

    @property
    def log_file(self) -> Path:
        """What it says, requests included."""
        return self.folder / f"{self.name}.log"

    def add_account(self, login: str, password: str | None = None) -> Account:
        """Let ``login`` in, with a new password unless one is given."""
        account = Account(login, password or secrets.token_urlsafe(12))
        self.remove_account(login)
        # the least cost there is: the registry checks the password at each request
        hashed = bcrypt.hashpw(account.password.encode(), bcrypt.gensalt(4)).decode()
        with self.htpasswd.open("a") as file:
            file.write(f"{login}:{hashed}\n")
        return account

    def remove_account(self, login: str) -> None:
        """Let ``login`` in no more."""
        lines = self.htpasswd.read_text().splitlines() if self.htpasswd.exists() else []
        self.htpasswd.write_text("".join(f"{line}\n" for line in lines if not line.startswith(f"{login}:")))


@dataclass(slots=True)
class Registry:
    """Both faces over one storage, on every address of this machine.

    :param host: the address at which nodes and this machine alike reach it; the certificate names it too
    :param name: the name under which nodes reach it
    :ivar push: the read-write face
    :ivar pull: the pull-only face: pushing and deleting answer 405
    """

    folder: Path
    host: str
    push: Face
    pull: Face
    name: str = NAME

    @property
    def ca_file(self) -> Path:
        """The certificate of who signed the server's."""
        return self.folder / "ca.crt"

    @property
    def storage(self) -> Path:
        """Where blobs and manifests lie."""
        return self.folder / "storage"

    def address(self, face: Face, host: str | None = None) -> str:
        """Return ``HOST:PORT``, the first part of the names of images there."""
        return f"{host or self.host}:{face.port}"

    def start(self) -> None:
        """Start both faces and wait until they listen.

        They end with the thread that called this: call it from one that stays.

        :raises RuntimeError: one does not start; the message ends with its log
        """
        for face in (self.push, self.pull):
            if face.process is None:
                face.process = _spawn(face)
        for face in (self.push, self.pull):
            _await(face)

    def stop(self) -> None:
        """End both faces by their pids; what is stored stays."""
        for face in (self.push, self.pull):
            process, face.process = face.process, None
            if process is not None:
                process.send_signal(signal.SIGKILL)  # as in a crash; nothing of it is in memory only
                process.wait()

    def renew_certificate(self, valid: timedelta = timedelta(days=30)) -> None:
        """Sign a new server certificate by the same CA and serve it; a negative time: one that has expired.

        The registry is restarted if it ran.
        """
        ran = self.push.process is not None
        self.stop()
        _write_server_certificate(self.folder, self.name, ["127.0.0.1", self.host], valid)
        if ran:
            self.start()

    def tls_context(self) -> ssl.SSLContext:
        """Return a client's context that trusts this CA and no other."""
        return ssl.create_default_context(cafile=str(self.ca_file))


def make_registry(folder: Path, host: str) -> Registry:
    """Write certificates, configurations and accounts for a registry at the address ``host``; start it by yourself."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_ca(folder)
    _write_server_certificate(folder, NAME, ["127.0.0.1", host], timedelta(days=30))
    push_port, pull_port = _free_ports()
    push = Face("push", push_port, folder, Account("builder", secrets.token_urlsafe(12)))
    pull = Face("pull", pull_port, folder, Account("edge", secrets.token_urlsafe(12)))
    secret = secrets.token_hex(16)
    for face in (push, pull):
        face.add_account(face.account.login, face.account.password)
        face.config_file.write_text(json.dumps(_config(face, secret, read_only=face is pull), indent=2))
    return Registry(folder, host, push, pull)


def _config(face: Face, secret: str, *, read_only: bool) -> dict[str, object]:
    folder = face.folder
    return {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "storage")},
            "delete": {"enabled": True},
            "maintenance": {"readonly": {"enabled": read_only}, "uploadpurging": {"enabled": False}},
        },
        "http": {
            "addr": f"0.0.0.0:{face.port}",
            "secret": secret,
            "tls": {"certificate": str(folder / "server.crt"), "key": str(folder / "server.key")},
        },
        "auth": {"htpasswd": {"realm": face.name, "path": str(face.htpasswd)}},
    }


def _free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("0.0.0.0", 0))
        second.bind(("0.0.0.0", 0))
        return int(first.getsockname()[1]), int(second.getsockname()[1])


def _spawn(face: Face) -> subprocess.Popen[bytes]:
    binary = program("docker-registry", "docker-registry")
    command = ["setpriv", "--pdeathsig", "KILL", binary, "serve", str(face.config_file)]
    with face.log_file.open("ab") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def _await(face: Face) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and face.process is not None and face.process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", face.port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"the registry did not start: {face.log_file.read_text()[-2000:]}")


def _write_ca(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "EVC test fleet CA")])
    certificate = (
        _unsigned(name, name, key, timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write_pair(folder / "ca", certificate, key)


def _write_server_certificate(folder: Path, name: str, addresses: Sequence[str], valid: timedelta) -> None:
    ca = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    ca_key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [x509.DNSName(name), x509.DNSName("localhost")]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    certificate = (
        _unsigned(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), ca.subject, key, valid)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    _write_pair(folder / "server", certificate, key)


def _unsigned(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, valid: timedelta
) -> x509.CertificateBuilder:
    end = datetime.now(UTC) + valid
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(end, datetime.now(UTC)) - timedelta(days=1))
        .not_valid_after(end)
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _write_pair(stem: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    key_file = stem.with_suffix(".key")
    key_file.touch(0o600)
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    stem.with_suffix(".crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
