"""The registry's own certificate authority and the server certificate it signs.

Engines and EVC trust this authority and no other. Keys are EC P-256, files of their owner only. The authority is made
once and never overwritten: every node has its certificate. The server's key is made once too; renewing replaces one
file, the certificate, so that key and certificate fit each other at any moment.

Source: RFC 5280; the strict checks of OpenSSL 3 (``X509_V_FLAG_X509_STRICT``), which Python 3.13 switches on.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from evc.errors import InputError
from evc.fleet.nodes import quote
from evc.registry.files import read_file, replace_file

AUTHORITY_VALID = timedelta(days=20 * 365)  # replacing it means going to every node
SERVER_VALID = timedelta(days=398)
RENEW_BEFORE = timedelta(days=30)

_AUTHORITY_NAME = "Edge Vision Cluster registry CA"
_SERVER_NAME = "Edge Vision Cluster registry"
# an edge board without a battery-backed clock may be behind for a while after it starts
_CLOCK_SKEW = timedelta(days=1)
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ALLOWED_NAME = "a DNS name (xn--... where it is not ASCII) or an IP address, without scheme and port"

Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate on disk, as far as people ask.

    :param names: DNS names and IP addresses it stands for, in its order
    :param expires: the moment it stops being valid, UTC
    """

    names: tuple[str, ...]
    expires: datetime


class Authority:
    """The certificate authority and the server certificate of one folder.

    Methods that write do not lock: see :func:`~evc.registry.files.locked`.
    """

    def __init__(self, folder: Path) -> None:
        self.ca_file = folder / "ca.crt"
        self.ca_key_file = folder / "ca.key"
        self.server_file = folder / "server.crt"
        self.server_key_file = folder / "server.key"

    def make(self, now: datetime | None = None) -> bool:
        """Make the authority where there is none; False where there is one.

        :raises InputError: its certificate is there without its key, or either can't be read
        """
        if read_file(self.ca_file) is not None:
            self._authority()
            return False
        # a key without certificate: a run was killed in between. The same key keeps what it may have signed valid.
        key = self._key(self.ca_key_file) or _new_key(self.ca_key_file)
        replace_file(self.ca_file, _pem(_sign_authority(key, now or datetime.now(UTC))), 0o644)
        return True

    def issue(self, names: Iterable[str], *, now: datetime | None = None, valid: timedelta = SERVER_VALID) -> None:
        """Sign a server certificate for ``names``, in place of the present one. The registry reads it when it starts.

        :param names: DNS names and IP addresses, at least one
        :param valid: for how long; never beyond the authority's own end
        :raises InputError: a name that does not fit, no authority, or one that has expired
        """
        now = now or datetime.now(UTC)
        checked = check_names(names)
        authority, key = self._authority()
        if authority.not_valid_after_utc <= now:
            raise InputError(
                str(self.ca_file),
                f"the authority expired on {authority.not_valid_after_utc:%Y-%m-%d}",
                "a new one: move ca.crt and ca.key away, run `evc registry init`, then register every node again",
            )
        server_key = self._key(self.server_key_file) or _new_key(self.server_key_file)
        certificate = _sign_server(authority, key, server_key.public_key(), checked, (now, valid))
        replace_file(self.server_file, _pem(certificate), 0o644)

    def server(self) -> Certificate | None:
        """Return the server certificate; None where there is none, or where the authority or the key is not its own.

        :raises InputError: a file that can't be read
        """
        certificate, key = self._certificate(self.server_file), self._key(self.server_key_file)
        authority = self._certificate(self.ca_file)
        if certificate is None or key is None or authority is None:
            return None
        if certificate.public_key() != key.public_key() or not _signed_by(certificate, authority):
            return None
        return Certificate(_names_of(certificate), certificate.not_valid_after_utc)

    def authority(self) -> Certificate | None:
        """Return the authority's certificate; it stands for no names. None where there is none.

        :raises InputError: a file that can't be read
        """
        certificate = self._certificate(self.ca_file)
        return None if certificate is None else Certificate((), certificate.not_valid_after_utc)

    def _authority(self) -> tuple[x509.Certificate, Key]:
        certificate, key = self._certificate(self.ca_file), self._key(self.ca_key_file)
        if certificate is None:
            raise InputError(str(self.ca_file), "there is none", "a folder in which `evc registry init` ran")
        if key is None:
            raise InputError(
                str(self.ca_key_file), "there is none, while ca.crt is there", "the key of ca.crt, from a backup"
            )
        if certificate.public_key() != key.public_key():
            raise InputError(str(self.ca_key_file), "is not the key of ca.crt", "the key of ca.crt, from a backup")
        return certificate, key

    @staticmethod
    def _certificate(path: Path) -> x509.Certificate | None:
        text = read_file(path)
        try:
            return None if text is None else x509.load_pem_x509_certificate(text)
        except ValueError:
            raise InputError(str(path), "is not a certificate", "a PEM file that `evc registry init` made") from None

    @staticmethod
    def _key(path: Path) -> Key | None:
        text = read_file(path)
        if text is None:
            return None
        try:
            key = serialization.load_pem_private_key(text, None)
        except (TypeError, ValueError):  # the library's own text may quote the key: not passed on
            key = None
        if isinstance(key, Key):
            return key
        raise InputError(str(path), "is not an EC key without passphrase", "a file that `evc registry init` made")


def check_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return ``names`` for a certificate: each once, in their order, IP addresses in their usual spelling.

    :raises InputError: none, or one that is neither DNS name nor IP address
    """
    checked = tuple(dict.fromkeys(check_name("--name", name) for name in names))
    if not checked:
        raise InputError("--name", "none is given", "at least one: what nodes and this machine call the registry")
    return checked


def check_name(where: str, name: str) -> str:
    """Return a DNS name in lower case, or an IP address. :raises InputError: it is neither"""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        pass
    # an address with a wrong digit is not a name
    dns = re.fullmatch(rf"{_LABEL}(?:\.{_LABEL})*", name) and len(name) <= 253 and not re.fullmatch(r"[0-9.]+", name)
    if not dns:
        raise InputError(where, f"{quote(name)} does not fit", _ALLOWED_NAME)
    return name.lower()


def _new_key(path: Path) -> Key:
    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8
    replace_file(path, key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()), 0o600)
    return key


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _sign_authority(key: Key, now: datetime) -> x509.Certificate:
    name = _name(_AUTHORITY_NAME)
    return (
        _unsigned(name, name, key.public_key(), (now, now + AUTHORITY_VALID))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _sign_server(
    authority: x509.Certificate,
    key: Key,
    public: ec.EllipticCurvePublicKey,
    names: tuple[str, ...],
    term: tuple[datetime, timedelta],
) -> x509.Certificate:
    now, valid = term
    end = min(now + valid, authority.not_valid_after_utc)
    return (
        _unsigned(_name(_SERVER_NAME), authority.subject, public, (now, end))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _unsigned(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, term: tuple[datetime, datetime]
) -> x509.CertificateBuilder:
    start, end = term
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(start, end) - _CLOCK_SKEW)
        .not_valid_after(end)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress))


def _signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except Exception:  # noqa: BLE001  InvalidSignature, ValueError, TypeError: in each case it is not the signer
        return False
    return True


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )
