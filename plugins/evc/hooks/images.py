"""The registry's images: looking at them, recording them, deleting them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cached_property

from sqlalchemy import Engine

from evc.errors import DatabaseError, ImageNotFound, InputError, RegistryAway, RegistryError, RegistryRefused
from evc.fleet.images import Image, check_repository, one_digest
from evc.fleet.log import Log
from evc.fleet.nodes import few
from evc.hooks.metrics import checked_engine
from evc.hooks.registry import RegistryHook
from evc.registry.authority import RENEW_BEFORE
from evc.registry.client import ImageFacts, RegistryClient
from evc.store.images import Details, Tagged, Users, image_users, known_details, mark_gone, record_images
from evc.store.registry_checks import record_check

DESCRIPTION = "org.opencontainers.image.description"
TITLE = "org.opencontainers.image.title"
REVISION = "org.opencontainers.image.revision"
MAX_LINES = 50
_MAX_DESCRIPTION, _MAX_REVISION, _MAX_PLATFORM = 1000, 80, 64  # the columns'


class ImagesHook:
    """Opens what a task needs when it needs it; one object serves one task.

    :param log: the task's own log
    """

    def __init__(self, log: Log) -> None:
        self.log = log
        self.registry = RegistryHook()

    @cached_property
    def engine(self) -> Engine:
        """The metrics database. :raises DatabaseError: away, or of another version"""
        return checked_engine()

    # -- recording -------------------------------------------------------------------------------------------------

    def sync(self) -> dict[str, int]:
        """Record what the registry holds; returns how many ``images`` there are, one a tag.

        Also how many were ``added``, are ``back`` and ``gone`` since the last time.
        What an image tells of itself is read once. Where the registry fails half-way nothing is recorded.

        :raises RegistryError: away, or refuses
        """
        with self.engine.connect() as connection:
            known = known_details(connection)
        with self.registry.client() as client:
            try:
                found = self._look(client, known)
            except RegistryError as error:
                self._record_failure(str(error), client.certificate_expires)
                raise
            expires = client.certificate_expires
        with self.engine.begin() as connection:
            now = int(time.time())
            changes = record_images(connection, found, now)
            record_check(connection, self.registry.address, now, None, _seconds(expires))
        self._tell("new", changes.added, found)
        self._tell("back", changes.back, found)
        self._tell("gone", changes.gone, {})
        counts = {"images": len(found)} | {name: len(getattr(changes, name)) for name in ("added", "back", "gone")}
        self.log.info("registry %s: %s", self.registry.address, _spoken(counts))
        self._tell_expiry(expires)
        return counts

    def _record_failure(self, message: str, expires: datetime | None) -> None:
        try:
            with self.engine.begin() as connection:
                record_check(connection, self.registry.address, int(time.time()), message, _seconds(expires))
        except DatabaseError as error:
            self.log.warning("%s", error)  # what is wrong with the registry is told all the same

    def _look(self, client: RegistryClient, known: Mapping[tuple[str, str], Details]) -> dict[Tagged, Details]:
        found: dict[Tagged, Details] = {}
        for repository in client.repositories():
            try:
                tagged = client.tagged(repository)
            except ImageNotFound:
                continue  # in the catalogue for good, though nothing was ever tagged, or all of it was deleted
            details: dict[str, Details | None] = {}
            for tag, digest in tagged.items():
                if digest not in details:
                    details[digest] = known.get((repository, digest)) or self._details(client, repository, digest)
                told = details[digest]
                if told is not None:
                    found[repository, tag, digest] = told
        return found

    def _details(self, client: RegistryClient, repository: str, digest: str) -> Details | None:
        """Return what an image tells; None where it was deleted meanwhile."""
        try:
            return _details_of(client.facts(repository, digest))
        except ImageNotFound:
            return None
        except (RegistryAway, RegistryRefused):
            raise
        except RegistryError as error:
            # e.g. a signature or a chart, which a registry holds as well: listed, with nothing known of it
            self.log.warning("%s", error)
            return Details()

    def _tell(self, what: str, keys: Iterable[Tagged], found: Mapping[Tagged, Details]) -> None:
        lines = [_line(key, found.get(key)) for key in keys]
        for line in lines[:MAX_LINES]:
            self.log.info("%s: %s", what, line)
        if len(lines) > MAX_LINES:
            self.log.info("%s: and %d more", what, len(lines) - MAX_LINES)

    def _tell_expiry(self, expires: datetime | None) -> None:
        if expires is None:
            return
        left = expires - datetime.now(UTC)
        if left < RENEW_BEFORE:
            self.log.warning(
                "registry %s: its certificate ends in %d days, on %s; then no node can pull. Run `evc registry init` "
                "in its folder, which renews it, and start the registry again",
                self.registry.address, left.days, f"{expires:%Y-%m-%d}",
            )  # fmt: skip

    # -- deleting --------------------------------------------------------------------------------------------------

    def find(self, repository: str, tag: str | None, digest: str | None) -> Image:
        """Return the image that a user means.

        :raises InputError: neither tag nor digest, or they lead to different images
        :raises ImageNotFound: the registry has none of that name; the message says what it has
        """
        check_repository("repository", repository)
        with self.registry.client() as client:
            found = one_digest(repository, tag, digest, client.find)
        return Image(repository, found, tag or None)

    def check_unused(self, image: Image, *, force: bool) -> None:
        """Do nothing where nobody needs the image, or where ``force`` is given: then the log says who does.

        :raises InputError: naming who needs it
        """
        with self.engine.connect() as connection:
            users = image_users(connection, image.repository, image.digest)
        if not users:
            return
        wrong = f"{_name(image)} is needed: {_who(users)}"
        if not force:
            raise InputError("image", wrong, "another image, or deploy_model of another one to them first; or force")
        self.log.warning("forced: %s", wrong)

    def delete(self, image: Image, *, force: bool) -> list[str]:
        """Delete an image with all its tags, which are returned. Done already, by a try before this one, is done.

        :raises InputError: it is needed, and ``force`` is not given; nothing was deleted
        :raises RegistryError: away, or refuses
        """
        with self.registry.client() as client:
            tags = self._tags_of(client, image)
            if tags is None:
                self.log.info("%s: is not in the registry any more", _name(image))
            else:
                self.check_unused(image, force=force)
                self.log.info("deleting %s; the tags that go along: %s", _name(image), ", ".join(tags) or "none")
                client.delete(image.repository, image.digest)
                self.log.info("deleted; its space comes back with the next garbage collection (docs/registry.md)")
        with self.engine.begin() as connection:
            gone = mark_gone(connection, image.repository, image.digest, int(time.time()))
        return sorted({*(tags or ()), *gone})

    def _tags_of(self, client: RegistryClient, image: Image) -> list[str] | None:
        """Return the tags that lead to an image; None where it is not there."""
        try:
            client.resolve(image.repository, image.digest)
            return [tag for tag, digest in client.tagged(image.repository).items() if digest == image.digest]
        except ImageNotFound:
            return None


def _details_of(facts: ImageFacts) -> Details:
    labels = facts.labels
    return Details(
        facts.size_bytes,
        _text(facts.platform, _MAX_PLATFORM),
        facts.created_ts,
        _text(labels.get(DESCRIPTION) or labels.get(TITLE), _MAX_DESCRIPTION),
        _text(labels.get(REVISION), _MAX_REVISION),
    )


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


def _text(text: str | None, length: int) -> str | None:
    """Return what an image says as one line that every database takes and every log shows."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text or "").split())
    return (line if len(line) <= length else f"{line[: length - 3]}...") or None


def _line(key: Tagged, details: Details | None) -> str:
    repository, tag, digest = key
    parts = [f"{repository}:{tag} {digest}"]
    if details and details.size_bytes is not None:
        parts.append(f"{details.size_bytes / 1e6:.1f} MB")
    if details:
        parts += [text for text in (details.platform, details.description) if text]
    return ", ".join(parts)


def _spoken(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _name(image: Image) -> str:
    return f"{image.repository}{f':{image.tag}' if image.tag else ''}@{image.digest}"


def _who(users: Users) -> str:
    parts = [
        ("running on", users.running),
        ("assigned to", users.assigned),
        ("inference under way on", users.inferring),
        ("unfinished roll-out", [str(rollout) for rollout in users.rollouts]),
    ]
    return "; ".join(f"{what} {few(names)}" for what, names in parts if names)
