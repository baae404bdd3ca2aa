"""What the last picture of an input showed: kept in memory, and in a file where one is named."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Seen:
    """One picture.

    :param ts: when it was taken, unix seconds; None: nobody knows
    :param cover: 0 to 1
    """

    ts: float | None
    cover: float


class LastSeen:
    """The last picture of ``given``, an input; a file holds those of many inputs, one writer at a time.

    :param file: None: it is known only until the process ends
    """

    def __init__(self, given: str, file: Path | None) -> None:
        # an input may hold a login
        self._key = hashlib.sha256(given.encode()).hexdigest()[:16]
        self._file = file
        self._last = self._kept().get(self._key)

    def replace(self, seen: Seen) -> Seen | None:
        """Keep ``seen``; returns what was seen before.

        :raises OSError: the file can't be written
        """
        before, self._last = self._last, seen
        if self._file:
            kept = {**self._kept(), self._key: seen}
            part = self._file.with_name(self._file.name + ".part")
            part.write_text(json.dumps({key: [each.ts, each.cover] for key, each in kept.items()}))
            part.replace(self._file)
        return before

    def _kept(self) -> dict[str, Seen]:
        if self._file:
            with suppress(OSError, ValueError, TypeError, AttributeError):  # none yet, or not ours: it begins anew
                said = json.loads(self._file.read_text())
                return {key: Seen(None if ts is None else float(ts), float(cover)) for key, (ts, cover) in said.items()}
        return {}
