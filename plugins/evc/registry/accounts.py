"""Accounts of one face of the registry: an htpasswd file that the running registry reads anew when it has changed.

A change counts from the next request on, without a restart. Of a password only its bcrypt hash is kept here.

Source: distribution 2.8, ``registry/auth/htpasswd``: bcrypt entries only; the file is read again when its time of
modification differs.
"""

from __future__ import annotations

import re
import secrets
from pathlib import Path

import bcrypt

from evc.errors import InputError
from evc.fleet.nodes import quote
from evc.registry.files import locked, read_file, replace_file

LOGIN_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"

_ALLOWED_LOGIN = "1 to 63 lower-case ASCII letters, digits, '.', '_' or '-', a letter or digit first"
# Passwords are 192 random bits: nobody guesses them whatever the hash costs. The registry, though, pays the cost at
# every request of every node.
_COST = 4
_PASSWORD_BYTES = 24


def node_login(node_id: int) -> str:
    """Return the login of a node's own account on the pull-only face."""
    return f"node-{node_id}"


class Accounts:
    """The accounts in ``path``. Every change is one replacement of the file, under a lock of its own.

    :raises InputError: from any method where the file is not there or may not be read or written
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = path.with_name(f".{path.name}.lock")

    def logins(self) -> list[str]:
        """Return who may log in, in the file's order."""
        return [login for login in map(_login, self._lines()) if login]

    def grant(self, login: str) -> str:
        """Let ``login`` in with a new password, which is returned; a former one stops counting.

        :raises InputError: a login that does not fit
        """
        if not re.fullmatch(LOGIN_PATTERN, login):
            raise InputError("login", f"{quote(login)} does not fit", _ALLOWED_LOGIN)
        password = secrets.token_urlsafe(_PASSWORD_BYTES)
        entry = f"{login}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(_COST)).decode()}"
        with locked(self._lock):
            self._write([*(line for line in self._lines() if _login(line) != login), entry])
        return password

    def revoke(self, login: str) -> bool:
        """Let ``login`` in no more; False where it was not let in before."""
        with locked(self._lock):
            lines = self._lines()
            left = [line for line in lines if _login(line) != login]
            if len(left) == len(lines):
                return False
            self._write(left)
        return True

    def knows(self, login: str, password: str) -> bool:
        """Return whether the registry would let them in."""
        for line in self._lines():
            if _login(line) == login:
                try:
                    return bcrypt.checkpw(password.encode(), line.partition(":")[2].strip().encode())
                except ValueError:  # not a bcrypt hash: the registry does not accept it either
                    return False
        return False

    def _lines(self) -> list[str]:
        text = read_file(self.path)
        if text is None:
            raise InputError("registry folder", f"there is no {self.path}", "a folder in which `evc registry init` ran")
        return text.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n") if text else []

    def _write(self, lines: list[str]) -> None:
        replace_file(self.path, "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))


def _login(line: str) -> str | None:
    login, colon, _ = line.partition(":")
    return login if colon and not line.startswith("#") else None
