"""Which buckets of a node's history are compared with now. Times are unix seconds; a bucket is five minutes."""

from __future__ import annotations

BUCKET_S = 300
DAY_S = 86_400
RECENT = 12
"""How many of the last buckets are judged: an hour."""
WEEKS = (1, 2, 3, 4)
DAYS = tuple(day for day in range(1, 14) if day % 7)
WEEK_POINTS = range(-12, 13)
"""Buckets around the same hour of an earlier week: an hour to both sides."""
DAY_POINTS = range(-12, 13, 4)


def recent_times(last_ts: int) -> list[int]:
    """Return the begins of the last buckets, the newest last."""
    return [last_ts - BUCKET_S * ago for ago in reversed(range(RECENT))]


def week_times(last_ts: int) -> list[list[int]]:
    """Return the begins of buckets by earlier week."""
    return [[last_ts - 7 * DAY_S * week + BUCKET_S * point for point in WEEK_POINTS] for week in WEEKS]


def day_times(last_ts: int) -> list[list[int]]:
    """Return the begins of buckets by earlier day."""
    return [[last_ts - DAY_S * day + BUCKET_S * point for point in DAY_POINTS] for day in DAYS]
