"""Tells people of events, by a connection of Airflow's: SMTP or Apprise."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import sqlalchemy
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from evc.errors import DatabaseError, InputError, NoticeFailed
from evc.fleet.log import Log
from evc.fleet.nodes import quote
from evc.fleet.notices import Event, compose
from evc.hooks.metrics import checked_engine
from evc.hooks.settings import settings
from evc.hooks.ways import Mail, NoAnswer, Services, Way
from evc.store.database import reporting
from evc.store.notices import claim, confirm, release

TOLD_FOR_S = 86_400
"""Events that are older are not told any more: who switches this on is not told of all the past."""
_PAUSES_S = (1, 2, 4)
"""What a database that went away is given to come back."""


class NoticesHook:
    """Tells once; one object serves one task.

    :param log: the task's own log
    :param pause: for tests
    """

    def __init__(self, log: Log, pause: Callable[[float], None] = time.sleep) -> None:
        self.log, self._pause = log, pause
        self.settings = settings()

    @property
    def is_configured(self) -> bool:
        """Whether there is somebody to be told."""
        return bool(self.settings.notify_conn_id)

    def tell(self, now_ts: int | None = None) -> int:
        """Send one message with all events that are new; returns how many these are.

        Where a mail server took the message and then did not answer, it may have sent it: 0 is returned, the log says
        so, and these events are not sent again.

        :param now_ts: for tests
        :raises InputError: the connection is not there, lacks something, or is of a type that tells nobody anything
        :raises NoticeFailed: nobody was told; the next run sends the same events
        :raises DatabaseError: the metrics database is away
        """
        now_ts = int(time.time()) if now_ts is None else now_ts
        way = self._way()
        engine = checked_engine()
        with reporting(), engine.begin() as connection:
            events = claim(connection, self.settings.notify_severity, now_ts - TOLD_FOR_S, now_ts)
        if not events:
            self.log.info("nothing new%s", _or_worse(self.settings.notify_severity))
            return 0
        notice = compose(events)
        try:
            told = way.send(notice)
        except NoAnswer:
            self.log.error("told or not: the server did not answer; not sent again: %s", notice.summary)
            return 0
        except Exception as error:  # noqa: BLE001  whatever a library raises, its events are told with the next
            # a library's own words may hold a URL with its password
            said = str(error) if isinstance(error, NoticeFailed) else type(error).__name__
            where = f"connection {self.settings.notify_conn_id}"
            raise NoticeFailed(f"{where}: {said}; {self._given_back(engine, events)}") from None
        self._note(engine, lambda connection: confirm(connection, events, now_ts))
        self.log.info("told %s: %s", told, notice.summary)
        return len(events)

    def _given_back(self, engine: sqlalchemy.Engine, events: Sequence[Event]) -> str:
        """Release ``events``; returns what becomes of them."""
        try:
            self._note(engine, lambda connection: release(connection, events))
        except DatabaseError as error:
            return f"nobody will be told of its events ({len(events)}), which could not be given back: {error}"
        return "mend it, the next run tells these events"

    def _note(self, engine: sqlalchemy.Engine, note: Callable[[sqlalchemy.Connection], None]) -> None:
        # a claim that stays is an event that nobody is told of: hence more than one try
        for pause_s in _PAUSES_S:
            try:
                with reporting(), engine.begin() as connection:
                    return note(connection)
            except DatabaseError:
                self._pause(pause_s)
        with reporting(), engine.begin() as connection:
            return note(connection)

    def _way(self) -> Way:
        """Return what sends a notice; whatever can be seen to be wrong is refused here, before events are claimed."""
        conn_id = self.settings.notify_conn_id
        try:
            connection = BaseHook.get_connection(conn_id)
        except AirflowNotFoundException:
            raise InputError(
                "[evc] notify_conn_id", f"there is no connection {quote(conn_id)}", "one of yours"
            ) from None
        if connection.conn_type == "smtp":
            return Mail(conn_id, connection, self.settings.notify_to, self.log)
        if connection.conn_type == "apprise":
            return Services(conn_id, connection, self.log)
        wrong = f"{quote(conn_id)} is of type {quote(connection.conn_type)}"
        raise InputError("[evc] notify_conn_id", wrong, "a connection of type smtp or apprise")


def _or_worse(severity: str) -> str:
    return {"info": "", "warning": " of warning or worse"}.get(severity, f" of {severity}")
