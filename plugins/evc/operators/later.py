"""A task that has to wait gives its slot back meanwhile."""

from __future__ import annotations

from datetime import timedelta
from typing import NoReturn

from airflow.sdk.exceptions import AirflowRescheduleException
from airflow.sdk.timezone import utcnow


def look_again(wait_s: int) -> NoReturn:
    """End this turn of the task; it is started anew in ``wait_s``, which counts as no try."""
    raise AirflowRescheduleException(utcnow() + timedelta(seconds=wait_s))  # type: ignore[no-untyped-call]
