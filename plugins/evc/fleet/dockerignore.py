"""``.dockerignore``: what of a folder is no part of a build.

Source: https://docs.docker.com/build/concepts/context/#dockerignore-files; patterns as in Go's ``filepath.Match``,
and ``**`` for any number of folders. The last line that matches a path, or a folder above it, decides.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

from evc.errors import InputError
from evc.fleet.nodes import quote

_ALLOWED = "patterns with *, ?, [...] and **, a '!' before exceptions"


class DockerIgnore:
    """The lines of a ``.dockerignore``.

    :param where: what the file is called in errors
    :raises InputError: a line is no pattern
    """

    def __init__(self, lines: Iterable[str], where: str = ".dockerignore") -> None:
        self._rules: list[tuple[re.Pattern[str], bool]] = []
        for number, line in enumerate(lines, 1):
            pattern = line.strip()
            if not pattern or line.startswith("#"):
                continue
            exception = pattern.startswith("!")
            clean = posixpath.normpath(pattern.removeprefix("!").strip()).strip("/")
            if clean in ("", "."):
                continue
            try:
                self._rules.append((re.compile(_expression(clean)), exception))
            except (re.error, ValueError):
                raise InputError(f"{where}:{number}", f"{quote(pattern)} is no pattern", _ALLOWED) from None

    def ignores(self, path: str) -> bool:
        """Return whether ``path``, relative and with ``/``, is left out."""
        ignored = False
        for pattern, exception in self._rules:
            if ignored == exception and any(pattern.fullmatch(part) for part in _with_parents(path)):
                ignored = not exception
        return ignored

    @property
    def has_exceptions(self) -> bool:
        """Whether something below an ignored folder may still count."""
        return any(exception for _, exception in self._rules)


def _with_parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _expression(pattern: str) -> str:
    """Return the regular expression of one pattern.

    :raises ValueError: a bracket is not closed, or nothing follows a backslash
    """
    parts: list[str] = []
    rest = pattern
    while rest:
        if rest.startswith("**/"):
            parts, rest = [*parts, r"(?:.*/)?"], rest[3:]
        elif rest.startswith("**"):
            parts, rest = [*parts, ".*"], rest[2:]
        elif rest[0] in "*?":
            parts, rest = [*parts, "[^/]*" if rest[0] == "*" else "[^/]"], rest[1:]
        elif rest[0] == "[":
            end = rest.index("]", 2)
            kinds = rest[1:end].replace("\\", r"\\").replace("[", r"\[")
            parts, rest = [*parts, f"(?!/)[{kinds}]"], rest[end + 1 :]
        else:
            escaped = rest[0] == "\\"
            if escaped and len(rest) == 1:
                raise ValueError(pattern)
            parts, rest = [*parts, re.escape(rest[escaped])], rest[escaped + 1 :]
    return "".join(parts)
