"""Which digest a tag leads to now: the registry is asked; where that can't be, what sync_registry saw last counts."""

from __future__ import annotations

from sqlalchemy import Connection

from evc.errors import ImageNotFound, RegistryError
from evc.registry.client import RegistryClient
from evc.store.images import image_rows, last_look


class Images:
    """Answers from the registry until it fails once, from then on from ``registry_images``.

    :param connection: to the metrics database
    :param client: of the registry; None: there is none to be asked
    :param why: there is no client
    :ivar was_asked: whether anything was looked up
    """

    def __init__(self, connection: Connection, client: RegistryClient | None, why: str | None = None) -> None:
        self._connection, self._client, self._why = connection, client, why
        self.was_asked = False

    @property
    def registry(self) -> str | None:
        """``host:port`` of the registry that answers; None: the database does, or nothing was looked up."""
        return self._client.address if self._client and self.was_asked else None

    @property
    def why(self) -> str | None:
        """Why the database answers in place of the registry; None: it does not, or nothing was looked up."""
        return self._why if self.was_asked else None

    @property
    def as_of_ts(self) -> int | None:
        """When sync_registry saw what the database answers, unix seconds; None: never, or the registry answers."""
        return last_look(self._connection) if self.was_asked and not self._client else None

    def find(self, repository: str, reference: str) -> str:
        """Return the digest that a tag or digest leads to.

        :raises ImageNotFound: there is none; the message says what there is, and who says so
        """
        self.was_asked = True
        if self._client:
            try:
                return self._client.find(repository, reference)
            except ImageNotFound:
                raise
            except RegistryError as error:
                self._client, self._why = None, str(error)
        return self._seen(repository, reference)

    def _seen(self, repository: str, reference: str) -> str:
        rows = [row for row in image_rows(self._connection) if row["repository"] == repository]
        for row in rows:
            if reference in (row["tag"], row["digest"]):
                return str(row["digest"])
        have = ", ".join(sorted({str(row["tag"]) for row in rows})) or "no image of it"
        named = f"{repository}{'@' if ':' in reference else ':'}{reference}"
        raise ImageNotFound(
            f"{named}: sync_registry saw {have}; trigger it, or build_model; registry not asked: {self._why}"
        )
