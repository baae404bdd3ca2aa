"""How fast a model works: frames, frames per second, latency, counted line by line in memory that does not grow.

**Frames.** Where the model prints ``frame`` lines, each is one frame. Where it never does, every change of the index
``frame`` from one line to the next is one, and so is a line with ``latency_ms`` and without an index. ``frames`` of a
``summary`` line overrules both.

**Frames per second.** Frames after the first, divided by the seconds between the first and the last, as the engine read
them: its clock counts up only, a step back counts as no time. Where a ``summary`` tells ``frames`` and ``duration_s``,
their quotient.

**Latency.** ``latency_ms``, once a frame. A percentile is by nearest rank: the smallest latency that at least so many
percent of the frames do not exceed; told within 1 %, because latencies are counted in buckets that are 2 % wide.
Source: DDSketch, Masson, Rim and Lee, VLDB 2019.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evc.fleet.results import ERROR, FRAME, MALFORMED, SUMMARY, Result

ACCURACY = 0.01
_GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
_LOG_GAMMA = math.log(_GAMMA)
_MIN_MS, _MAX_MS = 1e-3, 1e9
_ZERO = math.floor(math.log(_MIN_MS) / _LOG_GAMMA)  # everything below a microsecond

_log = math.log


@dataclass(slots=True)
class Latencies:
    """A histogram of latencies: at most 1,400 buckets, whatever comes.

    :param counts: by bucket ``i``, which reaches from ``gamma ** (i - 1)`` to ``gamma ** i`` milliseconds
    """

    counts: dict[int, int] = field(default_factory=dict)

    def add(self, latency_ms: float) -> None:
        """Count one, milliseconds, 0 and up."""
        bucket = _ZERO if latency_ms <= _MIN_MS else math.ceil(_log(min(latency_ms, _MAX_MS)) / _LOG_GAMMA)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1

    def percentile(self, percent: float) -> float | None:
        """Return it in milliseconds; None where nothing was counted."""
        rank = math.ceil(sum(self.counts.values()) * percent / 100)
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= max(rank, 1):
                return 0.0 if bucket == _ZERO else 2 * _GAMMA**bucket / (_GAMMA + 1)
        return None


@dataclass(slots=True)
class Frames:
    """Frames as they are told in one of the two ways.

    :param ns: nanoseconds from the first to the last
    """

    count: int = 0
    ns: int = 0
    last_ns: int | None = None
    latencies: Latencies = field(default_factory=Latencies)

    def add(self, ts_ns: int, latency_ms: float | None) -> None:
        """Count one."""
        self.count += 1
        if self.last_ns is not None and ts_ns > self.last_ns:
            self.ns += ts_ns - self.last_ns
        self.last_ns = ts_ns
        if latency_ms is not None:
            self.latencies.add(latency_ms)


@dataclass(slots=True)
class Performance:
    """What the lines of one run tell, so far.

    :param results: lines that tell what the model saw
    :param frame_lines: frames by lines of kind ``frame``
    :param indexed: frames by index, or by latency where there is none
    :param summary: ``frames`` and ``duration_s`` of the last ``summary``
    """

    results: int = 0
    errors: int = 0
    malformed: int = 0
    frame_lines: Frames = field(default_factory=Frames)
    indexed: Frames = field(default_factory=Frames)
    index: int | None = None
    summary: dict[str, float] = field(default_factory=dict)

    def add(self, result: Result, ts_ns: int) -> None:
        """Count one line. :param ts_ns: when the engine read it"""
        kind = result.kind
        if kind == FRAME:
            self.frame_lines.add(ts_ns, result.latency_ms)
        elif kind == MALFORMED:
            self.malformed += 1
        elif kind == ERROR:
            self.errors += 1
        elif kind == SUMMARY:
            self._summarise(result)
        else:
            self.results += 1
            if result.frame is None:
                if result.latency_ms is not None:
                    self.indexed.add(ts_ns, result.latency_ms)
            elif result.frame != self.index:
                self.index = result.frame
                self.indexed.add(ts_ns, result.latency_ms)

    def _summarise(self, result: Result) -> None:
        told = json.loads(result.payload) if result.payload else {}
        self.summary = {name: told[name] for name in ("frames", "duration_s") if name in told}

    @property
    def counted(self) -> Frames:
        """Frames in the way that the model tells them."""
        return self.frame_lines if self.frame_lines.count else self.indexed

    @property
    def frames(self) -> int | None:
        """How many; None where no line told of any."""
        return int(self.summary["frames"]) if "frames" in self.summary else self.counted.count or None

    @property
    def frames_per_s(self) -> float | None:
        """None where there were fewer than two, or no time passed."""
        if len(self.summary) == 2:
            told = self.summary["frames"] / self.summary["duration_s"]
            return told if math.isfinite(told) else None
        counted = self.counted
        return (counted.count - 1) * 1e9 / counted.ns if counted.ns else None

    def percentile(self, percent: float) -> float | None:
        """Return a percentile of the latency in milliseconds; None where no line told any."""
        return self.counted.latencies.percentile(percent)

    def columns(self) -> dict[str, float | int | None]:
        """Return what ``inference_runs`` keeps of it."""
        return {
            "frames": self.frames,
            "results": self.results,
            "malformed": self.malformed,
            "errors": self.errors,
            "frames_per_s": self.frames_per_s,
            "latency_p50_ms": self.percentile(50),
            "latency_p95_ms": self.percentile(95),
            "latency_p99_ms": self.percentile(99),
        }

    def dump(self) -> dict[str, Any]:
        """Return all of it, JSON-able, for :meth:`load`: counting goes on in another process."""
        return {
            "counts": [self.results, self.errors, self.malformed],
            "frame_lines": _dump(self.frame_lines),
            "indexed": _dump(self.indexed),
            "index": self.index,
            "summary": self.summary,
        }

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Performance:
        """Return what :meth:`dump` has returned."""
        results, errors, malformed = state["counts"]
        frame_lines, indexed = _load(state["frame_lines"]), _load(state["indexed"])
        return cls(results, errors, malformed, frame_lines, indexed, state["index"], dict(state["summary"]))


def _dump(frames: Frames) -> list[Any]:
    return [frames.count, frames.ns, frames.last_ns, sorted(frames.latencies.counts.items())]


def _load(state: list[Any]) -> Frames:
    count, ns, last_ns, counts = state
    return Frames(count, ns, last_ns, Latencies(dict(counts)))
