"""Since when logs are collected: a text becomes a time."""

from __future__ import annotations

import re
from datetime import datetime

from evc.errors import InputError
from evc.fleet.nodes import quote

# RFC 3339, section 5.6, with an offset; or a number and a unit
SINCE_PATTERN = (
    r"^(?:[1-9][0-9]{0,6}[smhd]"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2}))$"
)
DEFAULT_SINCE = "1h"

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_ALLOWED = 'a duration ("30m", "2h", "7d") or a past RFC 3339 time with its offset'


def parse_since(given: object, now_ts: int) -> int:
    """Return the time in unix seconds.

    :param now_ts: from where a duration goes back
    :raises InputError: neither a duration nor a time with its offset, or a time to come
    """
    if not isinstance(given, str) or not re.fullmatch(SINCE_PATTERN, given):
        raise InputError("since", f"{quote(given)} does not fit", _ALLOWED)
    if given[-1] in _SECONDS:
        return max(0, now_ts - int(given[:-1]) * _SECONDS[given[-1]])
    try:
        ts = int(datetime.fromisoformat(given.upper()).timestamp())
    except (ValueError, OverflowError):
        raise InputError("since", f"{quote(given)} is no time", _ALLOWED) from None
    if ts > now_ts:
        raise InputError("since", f"{quote(given)} is to come", _ALLOWED)
    return max(0, ts)
