"""Since when logs are collected: a text becomes a time."""

from __future__ import annotations

import re
from datetime import datetime

from evc.errors import InputError
from evc.fleet.nodes import quote
from evc.fleet.spans import SPAN_OR_TIME_PATTERN, is_span, seconds_of

SINCE_PATTERN = SPAN_OR_TIME_PATTERN
DEFAULT_SINCE = "1h"

_ALLOWED = 'a duration ("30m", "2h", "7d") or a past RFC 3339 time with its offset'


def parse_since(given: object, now_ts: int) -> int:
    """Return the time in unix seconds.

    :param now_ts: from where a duration goes back
    :raises InputError: neither a duration nor a time with its offset, or a time to come
    """
    if not isinstance(given, str) or not re.fullmatch(SINCE_PATTERN, given):
        raise InputError("since", f"{quote(given)} does not fit", _ALLOWED)
    if is_span(given):
        return max(0, now_ts - seconds_of(given))
    try:
        ts = int(datetime.fromisoformat(given.upper()).timestamp())
    except (ValueError, OverflowError):
        raise InputError("since", f"{quote(given)} is no time", _ALLOWED) from None
    if ts > now_ts:
        raise InputError("since", f"{quote(given)} is to come", _ALLOWED)
    return max(0, ts)
