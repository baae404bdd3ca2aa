"""What a container prints, line by line, from where reading ended last time.

Source: Docker Engine API 1.41, ``GET /containers/{id}/logs`` with ``timestamps``: frames, each a time, a space and what
was printed. A line of more than 16 KiB comes in several frames that bear the time of its first.

The engine knows no line numbers, so a place in a log is the time of the last line read, in nanoseconds, and how many
lines of that very time were read. ``since`` leaves out lines by their time alone, though: after a node's clock was set
back it would leave out new ones. Where that may have been (its clock against ours or the place, a new start of the
container), the whole log that the node still has is read and the place looked up in it. Not noticed: a clock that was
set back and right again between two readings while the container ran on.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from evc.engine.client import Engine, Frame
from evc.errors import EngineError
from evc.fleet.results import MAX_LINE_BYTES

CLOCK_SLACK_S = 5
"""By so much a node's clock may go astray between two readings without being taken for set back."""

_TAILS = (2_000, 20_000)
"""Where a place has to be looked up by reading back: so many lines from the end first, all of them at last."""

_SECOND_NS = 1_000_000_000
_TIME = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


class LogLine(NamedTuple):
    """One line.

    :param ts_ns: unix nanoseconds, when the engine got its beginning
    :param text: without its end; at most ``MAX_LINE_BYTES``
    :param size: how long all of it was, bytes
    """

    is_stderr: bool
    ts_ns: int
    text: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Place:
    """Up to where stdout of a container was read.

    :param ts_ns: of the last line
    :param same: how many lines of that time were read
    :param started_at: when the container had last been started, as the engine told when all was read
    :param clock_s: the node's clock minus ours then; None: there is doubt
    """

    ts_ns: int
    same: int
    started_at: str = ""
    clock_s: float | None = None


class LogParser:
    """Frames in, lines out; of each stream one line at most is kept back, up to ``MAX_LINE_BYTES`` of it."""

    def __init__(self) -> None:
        self._open: dict[bool, LogLine] = {}

    def feed(self, frames: list[Frame]) -> list[LogLine]:
        """Return the lines that ``frames`` complete.

        :raises ValueError: a frame without its time
        """
        lines: list[LogLine] = []
        waiting = self._open
        for is_stderr, frame in frames:
            stamp, _, text = frame.partition(b" ")
            ts_ns = nanoseconds(stamp)
            is_complete = text.endswith(b"\n")
            if is_complete:
                text = text[:-1]
            line = LogLine(is_stderr, ts_ns, text[:MAX_LINE_BYTES], len(text))
            if waiting and (begun := waiting.pop(is_stderr, None)):
                if begun.ts_ns == ts_ns:
                    line = LogLine(is_stderr, ts_ns, (begun.text + text)[:MAX_LINE_BYTES], begun.size + len(text))
                else:
                    lines.append(begun)  # its program died in mid-line
            if is_complete:
                lines.append(line)
            else:
                waiting[is_stderr] = line
        return lines

    def close(self) -> list[LogLine]:
        """Return what ended without an end of line."""
        left = list(self._open.values())
        self._open.clear()
        return left


def nanoseconds(stamp: bytes) -> int:
    """Return unix nanoseconds of an RFC 3339 time, as engines write it.

    :raises ValueError: it is none
    """
    if len(stamp) == 30 and stamp.endswith(b"Z"):
        return _second(stamp[:19]) * _SECOND_NS + int(stamp[20:29])
    found = _TIME.fullmatch(stamp)
    if not found:
        raise ValueError("a time was expected")
    whole, fraction, zone = found.groups()
    second = int(datetime.fromisoformat((whole + zone.replace(b"Z", b"+00:00")).decode()).timestamp())
    return second * _SECOND_NS + int((fraction or b"0").ljust(9, b"0"))


@lru_cache(maxsize=256)
def _second(stamp: bytes) -> int:
    return int(datetime.fromisoformat(stamp.decode()).replace(tzinfo=UTC).timestamp())


# -- reading -----------------------------------------------------------------------------------------------------------


class ContainerLog:
    """The log of one container, read on from a place.

    :param place: where reading ended last time; None: it begins
    :param started_at: ``State.StartedAt`` of the container now
    :param clock_s: the node's clock minus ours, now
    :param now: our clock, unix seconds
    :param stderr: false: what it writes there is not asked for
    :ivar place: after what was handed out
    :ivar lost: whether lines may have been rotated away before they were read
    """

    def __init__(
        self,
        engine: Engine,
        container: str,
        place: Place | None,
        *,
        started_at: str = "",
        clock_s: float | None = None,
        now: Callable[[], float] = time.time,
        stderr: bool = True,
    ) -> None:
        self._engine, self._container, self._started_at, self._clock_s = engine, container, started_at, clock_s
        self._now, self._stderr = now, stderr
        self._before = place
        self.place = place
        self.lost = False

    async def follow(self) -> AsyncGenerator[list[LogLine], None]:
        """Yield lines as they come until the container has ended: of stdout new ones, of stderr all.

        :raises EngineError: the engine refused, or its answer is no log
        :raises ConnectionCut: the way to the node ended
        """
        async for lines in self._from(await self._found(), follow=True):
            yield lines

    async def read(self, *, ended: bool, whole: bool | None = None) -> AsyncGenerator[list[LogLine], None]:
        """Yield what is there now: of stdout new lines, of stderr those since about the place.

        :param ended: the container does not run: a last line without its end is complete
        :param whole: whether to look the place up in the whole log; None: where the clock may have been set back
        :raises EngineError: the engine refused, or its answer is no log
        :raises ConnectionCut: the way to the node ended
        """
        skip = _Skip(self.place)
        since_ns = max(self.place.ts_ns - CLOCK_SLACK_S * _SECOND_NS, 0) if self.place else 0
        if self.place is None or not (self._clock_was_behind() if whole is None else whole):
            async for lines in self._from(skip, since_ns=since_ns, ended=ended):
                yield lines
        if skip.is_waiting and not self._stderr:  # that would come again each time
            for tail in _TAILS:
                skip = _Skip(self.place, is_window=True)
                async for lines in self._from(skip, tail=tail, ended=ended):
                    yield lines
                if not skip.is_waiting:
                    break
        if skip.is_waiting:  # the place was not found, or not looked for
            async for lines in self._from(await self._found(), ended=ended):
                yield lines
        self._settle()

    def _clock_was_behind(self) -> bool:
        """Whether there may be new lines with times from before the place."""
        place = self.place
        if place is None:
            return False
        if place.clock_s is None or self._clock_s is None or self._clock_s < place.clock_s - CLOCK_SLACK_S:
            return True
        return self._started_at != place.started_at  # a board without a clock of its own boots in the past

    async def _found(self) -> _Skip:
        """Return what to skip of the whole log: nothing where the place was rotated away."""
        skip = _Skip(self.place)
        if self.place is not None:
            async with aclosing(self._chunks(LogParser(), 0, follow=False)) as chunks:
                async for lines in chunks:
                    skip.fresh(lines)
                    if not skip.is_waiting:
                        return _Skip(self.place)
            self.lost = True
        return _Skip(None)

    async def _from(
        self,
        skip: _Skip,
        *,
        since_ns: int = 0,
        follow: bool = False,
        ended: bool = False,
        tail: int | None = None,
    ) -> AsyncGenerator[list[LogLine], None]:
        parser = LogParser()
        async with aclosing(self._chunks(parser, since_ns, follow=follow, tail=tail)) as chunks:
            async for lines in chunks:
                if fresh := skip.fresh(lines):
                    self._move(fresh)
                    yield fresh
        if ended and (fresh := skip.fresh(parser.close())):
            self._move(fresh)
            yield fresh

    async def _chunks(
        self, parser: LogParser, since_ns: int, *, follow: bool, tail: int | None = None
    ) -> AsyncGenerator[list[LogLine], None]:
        since = f"{since_ns // _SECOND_NS}.{since_ns % _SECOND_NS:09d}" if since_ns else None
        log = self._engine.logs(
            self._container, follow=follow, since=since, timestamps=True, stderr=self._stderr, tail=tail
        )
        async with aclosing(log) as chunks:
            async for frames in chunks:
                try:
                    lines = parser.feed(frames)
                except ValueError as error:
                    raise EngineError(f"{self._engine.name}: log of container {self._container}: {error}") from None
                if lines:
                    yield lines

    def _move(self, lines: list[LogLine]) -> None:
        place = self.place
        for line in lines:
            if not line.is_stderr:
                same = place.same + 1 if place and line.ts_ns == place.ts_ns else 1
                place = Place(line.ts_ns, same)
        if place is not None and self._before is not None:
            # what is not read yet may hold a step of the clock: until all is read the old times count
            place = replace(place, started_at=self._before.started_at, clock_s=self._before.clock_s)
        self.place = place

    def _settle(self) -> None:
        """All is read: from here on these are the times to compare with.

        A place that the node's clock has not reached yet stays in doubt: what comes next may bear an earlier time.
        """
        place = self.place
        if place is None:
            return
        clock_s = self._clock_s
        if clock_s is not None and (self._now() + clock_s + CLOCK_SLACK_S) * _SECOND_NS < place.ts_ns:
            clock_s = None
        is_as_before = place == self._before and place.started_at == self._started_at
        if is_as_before and clock_s is not None and place.clock_s is not None and abs(clock_s - place.clock_s) < 1:
            return  # nothing that is worth a row
        self.place = replace(place, started_at=self._started_at, clock_s=clock_s)


class _Skip:
    """Leaves out the lines of stdout up to a place, and nothing where there is no place.

    :param is_window: it gets only the end of a log, which may begin among the lines of the place's own time: then it
        can't tell how many of them were read, and lets none pass
    """

    def __init__(self, place: Place | None, *, is_window: bool = False) -> None:
        self._place = place
        self._seen = 0
        self._is_window, self._is_cut = is_window, False

    @property
    def is_waiting(self) -> bool:
        """Whether the place has not come by yet."""
        return self._place is not None and (self._is_cut or self._seen < self._place.same)

    def fresh(self, lines: list[LogLine]) -> list[LogLine]:
        """Return those of ``lines`` that come after the place, and all of stderr."""
        if self._is_window and self._place is not None and lines:
            self._is_window, self._is_cut = False, lines[0].ts_ns == self._place.ts_ns
        if self._is_cut:
            return []
        if not self.is_waiting:
            return lines
        kept = []
        for line in lines:
            if line.is_stderr or not self.is_waiting:
                kept.append(line)
            elif self._place is not None and line.ts_ns == self._place.ts_ns:
                self._seen += 1
        return kept
