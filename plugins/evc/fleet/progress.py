"""How far a pull or push is, from the messages of the engine.

Source: Docker Engine API 1.41, ``POST /images/create`` and ``/images/{name}/push``: a stream of JSON objects with
``id`` (the first 12 digits of a layer), ``status`` and ``progressDetail`` (``current`` and ``total``, bytes), many a
second. In a pull the bytes are those that travel, compressed; in a push they are those before compression.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

LINE_INTERVAL_S = 5.0
_RATE_WINDOW_S = 10.0
_SAMPLE_S = 1.0
_MAX_LAYERS = 1000
_SHOWN_LAYERS = 4
_ID = re.compile(r"[0-9a-f]{12}", re.ASCII)
_MOVING = {"Downloading": "downloading", "Pushing": "pushing"}
_ARRIVED = {"Verifying Checksum": "verifying", "Download complete": "downloaded", "Extracting": "unpacking"}
_DONE = frozenset({"Pull complete", "Already exists", "Pushed", "Layer already exists"})
_WAITING = frozenset({"Pulling fs layer", "Preparing", "Waiting"})


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as an image's manifest names it.

    :param digest: ``sha256:...`` of the compressed blob
    :param size_bytes: compressed: what travels
    :param diff_id: ``sha256:...`` of the unpacked layer, from the image's configuration; None: not known
    """

    digest: str
    size_bytes: int
    diff_id: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far it is at one moment.

    :param bytes_done: arrived, or there before
    :param bytes_total: None until something is known
    :param rate_bytes_per_s: of the last seconds; None at the start
    :param line: the same for people, with the layers that are under way
    """

    bytes_done: int
    bytes_total: int | None
    rate_bytes_per_s: float | None
    line: str


@dataclass(slots=True)
class _State:
    state: str = "waiting"
    done: int = 0
    total: int = 0
    unpacked: int = 0


class Progress:
    """Takes the engine's messages of one pull or push.

    :param layers: of the manifest: then the total is known from the start
    """

    def __init__(self, layers: Iterable[Layer] = ()) -> None:
        self._layers = {layer.digest.partition(":")[2][:12]: _State(total=layer.size_bytes) for layer in layers}
        self._is_known = bool(self._layers)
        self._samples: deque[tuple[float, int]] = deque()
        self._line_at: float | None = None

    @property
    def bytes_done(self) -> int:
        """What arrived or was there before."""
        return sum(layer.done for layer in self._layers.values())

    @property
    def bytes_total(self) -> int | None:
        """Of the manifest, or of the layers that have begun; None where neither is known."""
        return sum(layer.total for layer in self._layers.values()) or None

    def feed(self, message: Mapping[str, Any], now: float) -> Snapshot | None:
        """Take a message; returns a snapshot when it is time for a line in the log, every few seconds.

        :param now: seconds of any steady clock
        """
        status, name = message.get("status"), message.get("id")
        if isinstance(status, str) and isinstance(name, str) and _ID.fullmatch(name):
            self._take(name, status, message.get("progressDetail"))
        if self._line_at is None:
            self._line_at = now
            self._samples.append((now, self.bytes_done))
            return None
        if now - self._samples[-1][0] >= _SAMPLE_S:
            self._sample(now)
        if now - self._line_at < LINE_INTERVAL_S:
            return None
        self._line_at = now
        return self.snapshot()

    def snapshot(self) -> Snapshot:
        """Return how far it is."""
        done, total, rate = self.bytes_done, self.bytes_total, self._rate()
        finished = sum(layer.state == "done" for layer in self._layers.values())
        parts = [f"{megabytes(done)} of {megabytes(total)} MB" if total else "nothing yet"]
        if rate is not None:
            parts.append(f"{rate / 1e6:.1f} MB/s")
        parts.append(f"{finished} of {len(self._layers)} layers done")
        under_way = [_describe(name, it) for name, it in self._layers.items() if it.state not in {"done", "waiting"}]
        if len(under_way) > _SHOWN_LAYERS:
            under_way[_SHOWN_LAYERS:] = [f"{len(under_way) - _SHOWN_LAYERS} more under way"]
        return Snapshot(done, total, rate, ", ".join([*parts, *under_way]))

    def _take(self, name: str, status: str, detail: object) -> None:
        layer = self._layers.get(name)
        if layer is None:
            if not _is_of_a_layer(status) or len(self._layers) >= _MAX_LAYERS:
                return
            layer = self._layers[name] = _State()
        current, total = _counts(detail)
        if status in _MOVING:
            layer.state = _MOVING[status]
            if total and not self._is_known:
                layer.total = max(total, current)
            layer.done = min(current, layer.total) if layer.total else current
        elif status in _ARRIVED:
            layer.state, layer.unpacked = _ARRIVED[status], current
            layer.done = layer.total
        elif status in _DONE or status.startswith("Mounted from"):
            layer.state, layer.done = "done", layer.total
        elif status.startswith("Retrying"):
            layer.state, layer.done = "retrying", 0

    def _sample(self, now: float) -> None:
        self._samples.append((now, self.bytes_done))
        while len(self._samples) > 2 and now - self._samples[1][0] >= _RATE_WINDOW_S:
            self._samples.popleft()

    def _rate(self) -> float | None:
        if len(self._samples) < 2:
            return None
        (begin, before), (end, after) = self._samples[0], self._samples[-1]
        return max(0, after - before) / (end - begin) if end > begin else None


def megabytes(count: int) -> str:
    """Return bytes as megabytes with one digit after the point."""
    return f"{count / 1e6:.1f}"


def _is_of_a_layer(status: str) -> bool:
    known = status in _WAITING or status in _MOVING or status in _ARRIVED or status in _DONE
    return known or status.startswith(("Mounted from", "Retrying"))


def _counts(detail: object) -> tuple[int, int]:
    if not isinstance(detail, Mapping):
        return 0, 0
    current, total = detail.get("current"), detail.get("total")
    return (_count(current), _count(total))


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else 0


def _describe(name: str, layer: _State) -> str:
    if layer.state in _MOVING.values() and layer.total:
        return f"{name} {layer.state} {megabytes(layer.done)}/{megabytes(layer.total)}"
    if layer.state == "unpacking" and layer.total and layer.unpacked:
        return f"{name} unpacking {min(100, 100 * layer.unpacked // layer.total)}%"
    return f"{name} {layer.state}"
