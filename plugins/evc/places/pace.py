"""One request at a time, with a pause between two, across all processes of this machine.

Source: the usage policy of Nominatim's public service: at most one request a second.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Callable
from pathlib import Path

from evc.errors import GeocodingError


class Pace:
    """Lets the holder of the lock wait until ``interval_s`` has passed since the last request of anyone.

    :param file: holds the lock and the time of the last request, unix seconds; its folder exists
    """

    def __init__(
        self,
        file: Path,
        interval_s: float = 1.0,
        *,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._file, self._interval_s, self._now, self._sleep = file, interval_s, now, sleep

    def wait(self) -> None:
        """Return when the next request may go out.

        :raises GeocodingError: the file cannot be written: without it others could not be waited for
        """
        try:
            with self._file.open("a+", encoding="ascii") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # whoever holds it sleeps with it: the next one waits for both
                file.seek(0)
                self._sleep_since(file.read(32))
                file.truncate(0)
                file.write(f"{self._now():.3f}")
        except OSError as error:
            raise GeocodingError(f"pace of requests: {self._file}: {error.strerror}") from error

    def _sleep_since(self, last: str) -> None:
        with contextlib.suppress(ValueError):  # nothing, or not a number: the first request
            pause_s = float(last) + self._interval_s - self._now()
            if pause_s > 0:
                self._sleep(min(pause_s, self._interval_s))  # a clock that was set back must not hold us up
