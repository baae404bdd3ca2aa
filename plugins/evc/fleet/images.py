"""Names of images, as OCI and Docker write them: ``repository:tag`` and ``repository@sha256:...``.

Source: OCI distribution specification 1.1, "Pulling manifests": grammar of ``<name>`` and ``<reference>``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from evc.errors import InputError
from evc.fleet.nodes import quote

REPOSITORY_PATTERN = r"^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$"
TAG_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$"
DIGEST_PATTERN = r"^sha256:[0-9a-f]{64}$"
MAX_REPOSITORY = 255

_ALLOWED_TAG = "1 to 128 ASCII letters, digits, '_', '.' or '-', no '.' or '-' first"
_ALLOWED_DIGEST = "'sha256:' and 64 lower-case hexadecimal digits"
_ALLOWED_REPOSITORY = "lower-case ASCII letters and digits, parted by '.', '_', '-' or '/', at most 255"


@dataclass(frozen=True, slots=True)
class Image:
    """One image of a registry, by digest.

    :param repository: e.g. ``reid``, without the registry's address
    :param digest: ``sha256:...`` of its manifest
    :param tag: by which it was named, where it was
    """

    repository: str
    digest: str
    tag: str | None = None

    def reference(self, registry: str) -> str:
        """Return ``registry/repository@digest``. :param registry: ``host:port``"""
        return f"{registry}/{self.repository}@{self.digest}"


def check_repository(where: str, value: object) -> str:
    """Return ``value`` where it names a repository. :raises InputError: it does not"""
    if not isinstance(value, str) or len(value) > MAX_REPOSITORY or not re.fullmatch(REPOSITORY_PATTERN, value):
        raise InputError(where, f"{quote(value)} does not fit", _ALLOWED_REPOSITORY)
    return value


def check_tag(where: str, value: object) -> str:
    """Return ``value`` where it is a tag. :raises InputError: it is not"""
    if not isinstance(value, str) or not re.fullmatch(TAG_PATTERN, value):
        raise InputError(where, f"{quote(value)} does not fit", _ALLOWED_TAG)
    return value


def check_digest(where: str, value: object) -> str:
    """Return ``value`` where it is a digest. :raises InputError: it is not"""
    if not isinstance(value, str) or not re.fullmatch(DIGEST_PATTERN, value):
        raise InputError(where, f"{quote(value)} does not fit", _ALLOWED_DIGEST)
    return value


def one_digest(repository: str, tag: str | None, digest: str | None, find: Callable[[str, str], str]) -> str:
    """Return the digest that tag, digest, or both where they agree, mean.

    :param find: the digest to which a tag or digest of a repository leads
    :raises InputError: neither is given, one does not fit, or they lead to different images
    """
    if not tag and not digest:
        raise InputError("tag or digest", "neither is given", "one of them, or both where they agree")
    leads_to = find(repository, check_tag("tag", tag)) if tag else None
    there = find(repository, check_digest("digest", digest)) if digest else None
    if leads_to and there and leads_to != there:
        raise InputError("tag and digest", f"{repository}:{tag} is {leads_to}", "one of them, or both where they agree")
    return str(there or leads_to)
