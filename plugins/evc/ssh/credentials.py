"""What EVC logs in to nodes with. Secrets stay inside: neither ``repr`` nor an error shows one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

from evc.errors import CredentialsError


@dataclass(frozen=True, slots=True, eq=False)
class Credentials:
    """A login and what proves it.

    :param conn_id: the Airflow connection it came from, for messages
    :param login: used where a node names no user of its own
    :param keys: loaded once and shared by all sessions
    :param key_file: where the key came from a file, for Ansible's inventory
    """

    conn_id: str
    login: str
    keys: tuple[asyncssh.SSHKey, ...] = field(default=(), repr=False)
    password: str | None = field(default=None, repr=False)
    key_file: str | None = None


def load_credentials(
    conn_id: str,
    *,
    login: str | None,
    password: str | None = None,
    key_file: str | None = None,
    private_key: str | None = None,
    passphrase: str | None = None,
) -> Credentials:
    """Return credentials with the key read and decrypted.

    :raises CredentialsError: no login, neither key nor password, or a key that can't be read
    """
    if not login:
        raise CredentialsError(f"connection {conn_id}: no login; set its Login to the nodes' user")
    keys: tuple[asyncssh.SSHKey, ...] = ()
    if private_key:
        keys = (_parse_key(conn_id, private_key, passphrase, "extra private_key"),)
    elif key_file:
        keys = (_parse_key(conn_id, _read(conn_id, key_file), passphrase, f"key_file {key_file}"),)
    elif not password:
        raise CredentialsError(f"connection {conn_id}: set key_file or private_key in its Extra, or a password")
    return Credentials(conn_id, login, keys, password, key_file if keys and not private_key else None)


def _read(conn_id: str, key_file: str) -> str:
    try:
        return Path(key_file).expanduser().read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise CredentialsError(f"connection {conn_id}: key_file {key_file}: {reason}") from None


def _parse_key(conn_id: str, text: str, passphrase: str | None, source: str) -> asyncssh.SSHKey:
    try:
        return asyncssh.import_private_key(text, passphrase)
    except asyncssh.KeyEncryptionError:
        hint = (
            "the passphrase does not open it" if passphrase else "it needs a passphrase (extra private_key_passphrase)"
        )
        raise CredentialsError(f"connection {conn_id}: {source}: {hint}") from None
    except (asyncssh.KeyImportError, ValueError):
        # the library's own text may quote the key: not passed on
        raise CredentialsError(f"connection {conn_id}: {source}: not a private key in a known format") from None
