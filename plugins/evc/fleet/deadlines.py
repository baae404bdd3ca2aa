"""Until when a roll-out waits for nodes that do not answer: a text becomes a time."""

from __future__ import annotations

import re
from datetime import datetime

from evc.errors import InputError
from evc.fleet.nodes import quote
from evc.fleet.spans import SPAN_OR_TIME_PATTERN, is_span, seconds_of

DEADLINE_PATTERN = SPAN_OR_TIME_PATTERN
DEFAULT_DEADLINE = "1h"
FOREVER_TS = 253_402_300_799  # the last second of the year 9999

_MAX_S = 366 * 86400
_ALLOWED = 'a duration of at most 366 days ("90m", "2h", "1d"), a later RFC 3339 time with its offset, or nothing'


def parse_deadline(given: object, now_ts: int) -> int:
    """Return the deadline in unix seconds; :data:`FOREVER_TS` for None: nodes are waited for until they answer.

    :param now_ts: where a duration begins
    :raises InputError: neither a duration nor a time with its offset, or a time that is over
    """
    if given is None:
        return FOREVER_TS
    if not isinstance(given, str) or not re.fullmatch(DEADLINE_PATTERN, given):
        raise InputError("deadline", f"{quote(given)} does not fit", _ALLOWED)
    if is_span(given):
        length_s = seconds_of(given)
        if length_s > _MAX_S:
            raise InputError("deadline", f"{quote(given)} is too long", _ALLOWED)
        return now_ts + length_s
    try:
        ts = int(datetime.fromisoformat(given.upper()).timestamp())
    except (ValueError, OverflowError):
        raise InputError("deadline", f"{quote(given)} is no time", _ALLOWED) from None
    if ts <= now_ts:
        raise InputError("deadline", f"{quote(given)} is over", _ALLOWED)
    if ts > now_ts + _MAX_S:
        raise InputError("deadline", f"{quote(given)} is too far away", _ALLOWED)
    return ts
