"""Result lines: what a model prints on stdout, one JSON object a line.

The contract is ``results.schema.json`` beside this file, told in docs/models.md ("Result lines"). Whatever a container
prints becomes a row: a line that breaks the contract is kept as kind ``malformed`` with its text and the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from json import JSONDecodeError
from math import inf, isfinite
from typing import Any, NamedTuple, NoReturn

FRAME, SUMMARY, ERROR, MALFORMED = "frame", "summary", "error", "malformed"
SPECIAL_KINDS = frozenset({FRAME, SUMMARY, ERROR})
"""Kinds that every model may print, listed in its model.yaml or not."""

MAX_LINE_BYTES = 65_536
MAX_LABEL = 255
MAX_DEPTH = 16
MAX_TEXT = 2_000
"""How much of a malformed line is kept, characters."""
MIN_TS, MAX_TS = 946_684_800, 4_102_444_800  # the years 2000 to 2099: milliseconds are none of these

_KIND = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
_BIG = 2**63
_TEXTS = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)  # one that does not end reaches to the end: linear, always
_HALF_PAIR = re.compile(r"\\ud[89a-f]")
_NUL = "\\u0000"
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode


class Result(NamedTuple):
    """One line, fit for the table ``inference_results``.

    :param ts: unix seconds
    :param frame: index that the line bears, for counting frames
    :param payload: what has no column of its own, as JSON; None where there is nothing
    """

    ts: int
    kind: str
    label: str | None
    score: float | None
    value: float | None
    latency_ms: float | None
    payload: str | None
    frame: int | None = None

    @property
    def is_result(self) -> bool:
        """Whether it tells what the model saw, not how it fares."""
        return self.kind not in SPECIAL_KINDS and self.kind != MALFORMED


class _Malformed(Exception):
    """The first thing that is wrong with a line."""


def _no_number(word: str) -> NoReturn:
    raise _Malformed(f"{word} is no number in JSON")


_decode = json.JSONDecoder(parse_constant=_no_number).decode


def read_line(line: bytes, ts_ns: int, kinds: Collection[str] | None = None, size: int | None = None) -> Result:
    """Return what one line says; it never raises.

    :param line: without its end
    :param ts_ns: when the engine read it, unix nanoseconds: where the line has no ``ts`` of its own
    :param kinds: which the model promises in model.yaml; None: any
    :param size: bytes of the whole line, where ``line`` is only its beginning
    """
    ts = ts_ns // 1_000_000_000
    size = len(line) if size is None else size
    try:
        if size > MAX_LINE_BYTES:
            raise _Malformed(f"longer than {MAX_LINE_BYTES:,} bytes")
        return _result(_parse(line), ts, kinds)
    except _Malformed as reason:
        return _malformed(line, size, ts, str(reason))


def _parse(line: bytes) -> dict[str, Any]:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise _Malformed("not UTF-8") from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        raise _Malformed(f"nested deeper than {MAX_DEPTH}")
    try:
        given = _decode(text)
    except JSONDecodeError:
        raise _Malformed("not JSON") from None
    except ValueError:  # more digits than Python reads
        raise _Malformed("a number is too long") from None
    if type(given) is not dict:
        raise _Malformed("not an object")
    return given


def _depth(text: str) -> int:
    """Return an upper bound of how deep ``text`` is nested; brackets inside texts do not count."""
    depth = deepest = 0
    for character in _TEXTS.sub("", text):
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _result(given: dict[str, Any], ts: int, kinds: Collection[str] | None) -> Result:
    take = given.pop
    kind = take("kind", None)
    if type(kind) is not str or not _KIND.fullmatch(kind):
        raise _Malformed("kind: missing or no word")
    if kinds is not None and kind not in kinds and kind not in SPECIAL_KINDS:
        raise _Malformed("kind: not listed in model.yaml")
    if kind == MALFORMED:
        raise _Malformed("kind: reserved")
    label = take("label", None)
    if label is not None:
        label = _label(label)
    own_ts = take("ts", None)
    score, value, latency_ms = take("score", None), take("value", None), take("latency_ms", None)
    frame = given.get("frame")
    if frame is not None:
        frame = _whole("frame", frame)
    if kind in SPECIAL_KINDS:
        _check_special(kind, given)
    return Result(
        ts if own_ts is None else _seconds(own_ts),
        kind,
        label,
        None if score is None else _number("score", score),
        None if value is None else _number("value", value),
        None if latency_ms is None else _positive("latency_ms", latency_ms),
        _payload(given) if given else None,
        frame,
    )


def _check_special(kind: str, given: dict[str, Any]) -> None:
    if kind == SUMMARY:
        if "frames" in given:
            given["frames"] = _whole("frames", given["frames"])
        if "duration_s" in given and _positive("duration_s", given["duration_s"]) == 0:
            raise _Malformed("duration_s: 0")
    elif kind == ERROR and type(given.get("message", "")) is not str:
        raise _Malformed("message: not a text")


def _label(value: Any) -> str:
    if type(value) is not str or len(value) > MAX_LABEL:
        raise _Malformed(f"label: not a text of at most {MAX_LABEL} characters")
    return value if value.isprintable() else _printable(value)


def _number(name: str, value: Any) -> float:
    if type(value) is not float and type(value) is not int:
        raise _Malformed(f"{name}: not a number")
    try:
        number = float(value)
    except OverflowError:
        number = inf
    if not isfinite(number):
        raise _Malformed(f"{name}: out of range")
    return number


def _whole(name: str, value: Any) -> int:
    if type(value) is float and value.is_integer():
        value = int(value)  # JSON tells 1 and 1.0 not apart
    if type(value) is not int or not 0 <= value < _BIG:
        raise _Malformed(f"{name}: not a whole number from 0")
    return value


def _positive(name: str, value: Any) -> float:
    number = _number(name, value)
    if number < 0:
        raise _Malformed(f"{name}: below 0")
    return number


def _seconds(value: Any) -> int:
    number = _number("ts", value)
    if not MIN_TS <= number < MAX_TS:
        raise _Malformed("ts: not unix seconds")
    return int(number)


def _payload(given: dict[str, Any]) -> str:
    try:
        text = _encode(given)
    except ValueError:  # 1e999 reads as infinity
        raise _Malformed("a number is out of range") from None
    if _NUL in text or "\\ud" in text:
        # PostgreSQL can't take either out of JSON again
        text = _encode(_storable(given)) if _NUL in text or _HALF_PAIR.search(text) else text
    return text


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_storable(key): _storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    return value


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _malformed(line: bytes, size: int, ts: int, reason: str) -> Result:
    text = _printable(line[: 4 * MAX_TEXT].decode("utf-8", "replace"))[:MAX_TEXT]
    return Result(ts, MALFORMED, reason, None, None, None, _encode({"reason": reason, "bytes": size, "text": text}))
