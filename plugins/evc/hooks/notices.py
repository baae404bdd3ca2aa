"""Tells people of events, by a connection of Airflow's: SMTP or Apprise."""

from __future__ import annotations

import smtplib
import time
from collections.abc import Callable
from html import escape

import apprise
from airflow.providers.apprise.hooks.apprise import AppriseHook
from airflow.providers.smtp.hooks.smtp import SmtpHook
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from evc.errors import InputError, NoticeFailed
from evc.fleet.log import Log
from evc.fleet.nodes import quote
from evc.fleet.notices import Notice, compose
from evc.hooks.metrics import checked_engine
from evc.hooks.settings import settings
from evc.store.database import reporting
from evc.store.notices import claim, confirm, release

TOLD_FOR_S = 86_400
"""Events that are older are not told any more: who switches this on is not told of all the past."""
_APPRISE_TYPES = {"error": "failure", "warning": "warning", "info": "info"}


class NoticesHook:
    """Tells once; one object serves one task. :param log: the task's own log"""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.settings = settings()

    @property
    def is_configured(self) -> bool:
        """Whether there is somebody to be told."""
        return bool(self.settings.notify_conn_id)

    def tell(self, now_ts: int | None = None) -> int:
        """Send one message with all events that are new; returns how many these are.

        :param now_ts: for tests
        :raises InputError: the connection is not there, or of a type that tells nobody anything
        :raises NoticeFailed: it could not be sent; the next run sends the same events
        """
        now_ts = int(time.time()) if now_ts is None else now_ts
        send = self._way()
        engine = checked_engine()
        with reporting(), engine.begin() as connection:
            events = claim(connection, self.settings.notify_severity, now_ts - TOLD_FOR_S, now_ts)
        if not events:
            return 0
        notice = compose(events)
        try:
            send(notice)
        except Exception as error:  # noqa: BLE001  whatever a library raises, its events are told with the next
            with reporting(), engine.begin() as connection:
                release(connection, events)
            raise NoticeFailed(
                f"connection {self.settings.notify_conn_id}: {_said(error)}; mend it, the next run tells these events"
            ) from None
        with reporting(), engine.begin() as connection:
            confirm(connection, events, now_ts)
        self.log.info("%s", notice.title)
        return len(events)

    def _way(self) -> Callable[[Notice], None]:
        conn_id = self.settings.notify_conn_id
        try:
            kind = BaseHook.get_connection(conn_id).conn_type
        except AirflowNotFoundException:
            raise InputError(
                "[evc] notify_conn_id", f"there is no connection {quote(conn_id)}", "one of yours"
            ) from None
        ways = {"smtp": self._mail, "apprise": self._apprise}
        if kind not in ways:
            wrong = f"{quote(conn_id)} is of type {quote(kind)}"
            raise InputError("[evc] notify_conn_id", wrong, f"a connection of type {' or '.join(ways)}")
        if kind == "smtp" and not self._addresses():
            raise InputError("[evc] notify_to", "names nobody", "mail addresses, with commas between them")
        return ways[kind]

    def _addresses(self) -> list[str]:
        return [address.strip() for address in self.settings.notify_to.split(",") if address.strip()]

    def _mail(self, notice: Notice) -> None:
        with SmtpHook(self.settings.notify_conn_id) as hook:
            hook.send_email_smtp(
                to=self._addresses(),
                subject=notice.title,
                html_content=f"<pre>{escape(notice.body)}</pre>",
            )

    def _apprise(self, notice: Notice) -> None:
        hook, services = AppriseHook(self.settings.notify_conn_id), apprise.Apprise()
        hook.set_config_from_conn(conn=hook.get_connection(self.settings.notify_conn_id), apprise_obj=services)
        # the hook's own notify says nothing of a service that refused
        if not services.notify(title=notice.title, body=notice.body, notify_type=_APPRISE_TYPES[notice.severity]):
            raise NoticeFailed("a service did not take it")


def _said(error: Exception) -> str:
    """Return why it was not sent, on one line: a library's own words may hold a URL with its password."""
    if isinstance(error, NoticeFailed):
        return str(error)
    if isinstance(error, smtplib.SMTPResponseException):
        return f"the server answered {error.smtp_code}"
    reason = error.strerror if isinstance(error, OSError) else None
    return f"{type(error).__name__}{f': {reason}' if reason else ''}"
