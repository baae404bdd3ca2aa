"""The lines of one run on their way into the database: read, counted, shown, stored."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from sqlalchemy import Engine as Database

from evc.engine.logs import LogLine, Place
from evc.fleet.log import Log
from evc.fleet.masking import mask_line
from evc.fleet.performance import Performance
from evc.fleet.results import MALFORMED, Result, read_line
from evc.store.inference import Chunk, Conditions, Run, node_conditions, store_chunk

MAX_LINES = 5_000
MAX_BYTES = 4_000_000
SHOWN_LINES = 10
SHOWN_MALFORMED = 5
KEPT_STDERR = 10
MAX_SHOWN = 300


class Ledger:
    """Takes the lines of a run from where its last ones were stored.

    :param kinds: that the model promises; None: any
    :param shown: how many lines to show in the log; further malformed ones are shown too, up to a bound
    :ivar place: where reading goes on
    """

    def __init__(self, database: Database, run: Run, kinds: Collection[str] | None, log: Log, shown: int = 0) -> None:
        self.run = run
        self._database, self._kinds, self._log = database, kinds, log
        self._shown, self._malformed_shown = shown, 0
        state: dict[str, Any] = json.loads(run.cursor) if run.cursor else {}
        self.place: Place | None = Place(**state["place"]) if state.get("place") else None
        self.performance = Performance.load(state["performance"]) if state else Performance()
        self.conditions = Conditions(**state["conditions"]) if state else Conditions()
        self.more: dict[str, Any] = state.get("more", {})
        self._stderr: deque[bytes] = deque(maxlen=KEPT_STDERR)
        self._waiting: list[Result] = []
        self._bytes = 0
        self._malformed_before = self.performance.malformed
        self._stored_place = self.place

    @property
    def malformed(self) -> int:
        """How many malformed lines this ledger took."""
        return self.performance.malformed - self._malformed_before

    @property
    def stderr(self) -> list[str]:
        """The last lines of stderr, printable, without secrets: programs like to name the URL that they can't open."""
        return [_printable(text) for text in self._stderr]

    @property
    def is_full(self) -> bool:
        """Whether what waits should be stored before more is taken."""
        return len(self._waiting) >= MAX_LINES or self._bytes >= MAX_BYTES

    @property
    def is_ahead(self) -> bool:
        """Whether lines or a place are not stored yet."""
        return bool(self._waiting) or self.place != self._stored_place

    @property
    def waiting(self) -> int:
        """How many lines are not stored yet."""
        return len(self._waiting)

    def take(self, lines: list[LogLine], place: Place | None) -> None:
        """Read lines as they come out of a log. :param place: after them"""
        add, kinds, waiting = self.performance.add, self._kinds, self._waiting
        for is_stderr, ts_ns, text, size in lines:
            if is_stderr:
                self._stderr.append(text[: 4 * MAX_SHOWN])
                continue
            if not text or text.isspace():
                continue
            result = read_line(text, ts_ns, kinds, size)
            add(result, ts_ns)
            waiting.append(result)
            self._bytes += len(text)
            if self._shown or result.kind == MALFORMED:
                self._show(result, text)
        self.place = place

    def store(self, columns: dict[str, Any] | None = None) -> None:
        """Store what waits, and where reading goes on, in one transaction.

        :param columns: what else to set in ``inference_runs``
        :raises Stopped: another task reads the same run
        :raises DatabaseError: nothing was stored
        """
        with self._database.begin() as connection:
            begin_ts = self.run.started_ts if self.conditions.until_ts is None else self.conditions.until_ts + 1
            now_ts = int(time.time())
            conditions = self.conditions.and_then(node_conditions(connection, self.run.node_id, begin_ts, now_ts))
            told = {**self.performance.columns(), **conditions.columns(), **(columns or {})}
            run = store_chunk(connection, Chunk(self.run, self._waiting, self._cursor(conditions), told))
        self.run, self.conditions = run, conditions
        self._waiting, self._bytes, self._stored_place = [], 0, self.place

    def progress(self) -> str:
        """Return what was read so far, for a log."""
        performance = self.performance
        parts = [f"{self.run.lines + self.waiting:,} lines"]
        if performance.frames:
            parts.append(f"{performance.frames:,} frames")
        if performance.frames_per_s:
            parts.append(f"{performance.frames_per_s:,.1f} frames/s")
        known = [(percent, performance.percentile(percent)) for percent in (50, 95, 99)]
        parts += [f"p{percent} {value:.3g} ms" for percent, value in known if value is not None]
        parts += [f"{count:,} {name}" for name, count in _troubles(performance) if count]
        return ", ".join(parts)

    def _cursor(self, conditions: Conditions) -> str:
        state = {
            "place": asdict(self.place) if self.place else None,
            "performance": self.performance.dump(),
            "conditions": asdict(conditions),
            "more": self.more,
        }
        return json.dumps(state, separators=(",", ":"))

    def _show(self, result: Result, text: bytes) -> None:
        if self._shown:
            self._shown -= 1
        elif self._malformed_shown >= SHOWN_MALFORMED:
            return
        if result.kind != MALFORMED:
            self._log.info("  %s", _printable(text))
            return
        self._malformed_shown += 1
        self._log.warning("  malformed (%s): %s", result.label, _printable(text))


def _troubles(performance: Performance) -> tuple[tuple[str, int], ...]:
    return ("errors", performance.errors), ("malformed", performance.malformed)


def _printable(text: bytes) -> str:
    shown = mask_line("".join(c if c.isprintable() else "?" for c in text[: 4 * MAX_SHOWN].decode("utf-8", "replace")))
    return shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}..."
