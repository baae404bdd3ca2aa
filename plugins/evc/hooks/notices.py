"""Tells people of events, by a connection of Airflow's: SMTP or Apprise."""

from __future__ import annotations

import json
import logging
import smtplib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.message import EmailMessage
from email.utils import localtime
from functools import partial
from html import escape
from typing import Any

import apprise
import sqlalchemy
from airflow.providers.smtp.hooks.smtp import SmtpHook
from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import AirflowNotFoundException

from evc.errors import DatabaseError, InputError, NoticeFailed
from evc.fleet.log import Log
from evc.fleet.nodes import quote
from evc.fleet.notices import Event, Notice, compose
from evc.hooks.metrics import checked_engine
from evc.hooks.settings import settings
from evc.store.database import reporting
from evc.store.notices import claim, confirm, release

TOLD_FOR_S = 86_400
"""Events that are older are not told any more: who switches this on is not told of all the past."""
_APPRISE_TYPES = {"error": "failure", "warning": "warning", "info": "info"}
_CONFIG = '{"path": "URL of a service that Apprise knows"} or a list of these'
_PAUSES_S = (1, 2, 4)
"""What a database that went away is given to come back."""

_Way = Callable[[Notice], None]


class _NoAnswer(Exception):
    """The server has the message, or not: it did not say."""


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
        send = self._way()
        engine = checked_engine()
        with reporting(), engine.begin() as connection:
            events = claim(connection, self.settings.notify_severity, now_ts - TOLD_FOR_S, now_ts)
        if not events:
            return 0
        notice = compose(events)
        try:
            send(notice)
        except _NoAnswer:
            self.log.error("told or not: the server did not answer; not sent again: %s", notice.title)
            return 0
        except Exception as error:  # noqa: BLE001  whatever a library raises, its events are told with the next
            raise NoticeFailed(f"{self._where}: {_said(error)}; {self._given_back(engine, events)}") from None
        self._note(engine, lambda connection: confirm(connection, events, now_ts))
        self.log.info("%s", notice.title)
        return len(events)

    @property
    def _where(self) -> str:
        return f"connection {self.settings.notify_conn_id}"

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

    def _way(self) -> _Way:
        """Return what sends a notice; whatever can be seen to be wrong is refused here, before events are claimed."""
        conn_id = self.settings.notify_conn_id
        try:
            connection = BaseHook.get_connection(conn_id)
        except AirflowNotFoundException:
            raise InputError(
                "[evc] notify_conn_id", f"there is no connection {quote(conn_id)}", "one of yours"
            ) from None
        ways = {"smtp": self._by_mail, "apprise": self._by_apprise}
        kind = connection.conn_type
        if kind not in ways:
            wrong = f"{quote(conn_id)} is of type {quote(kind)}"
            raise InputError("[evc] notify_conn_id", wrong, f"a connection of type {' or '.join(ways)}")
        return ways[kind](connection)

    # -- mail ----------------------------------------------------------------------------------------------------------

    def _by_mail(self, connection: Connection) -> _Way:
        given = self.settings.notify_to.split(",")
        to = list(dict.fromkeys(address.strip() for address in given if address.strip()))
        if not to:
            raise InputError("[evc] notify_to", "names nobody", "mail addresses, with commas between them")
        if not connection.host:
            raise InputError(self._where, "its host is not set", "name or address of a mail server")
        sender = connection.extra_dejson.get("from_email")
        if not sender or not isinstance(sender, str):
            raise InputError(self._where, "from_email is not set in its extra", "the address that mails come from")
        return partial(self._mail, sender, to)

    def _mail(self, sender: str, to: Sequence[str], notice: Notice) -> None:
        letter = _letter(sender, to, notice)
        with SmtpHook(self.settings.notify_conn_id) as hook:
            # not by the hook's own send_email_smtp: it sends again after any error and drops who was refused
            client = hook._smtp_client
            if not isinstance(client, smtplib.SMTP):
                raise NoticeFailed("Airflow's SMTP hook gave no client of smtplib's")
            try:
                refused = client.sendmail(sender, to, letter)
            except OSError as error:
                if _is_unsure(error):
                    raise _NoAnswer from None
                raise
        if refused:
            self.log.warning("%d of %d addresses were refused: %s", len(refused), len(to), _codes(refused))

    # -- Apprise -------------------------------------------------------------------------------------------------------

    def _by_apprise(self, connection: Connection) -> _Way:
        services = apprise.Apprise()
        for number, entry in enumerate(self._entries(connection), 1):
            if not _is_added(services, entry):
                raise InputError(self._where, f"its {_nth(number)} URL can't be read", _CONFIG)
        for service in services:
            # a service refuses what is too long for it; an instance has the attribute where its URL says what to do
            if "overflow_mode" not in vars(service):
                service.overflow_mode = apprise.OverflowMode.SPLIT
        return partial(self._apprise, services)

    def _entries(self, connection: Connection) -> list[Mapping[str, Any]]:
        config = connection.extra_dejson.get("config")
        if isinstance(config, str):
            try:
                config = json.loads(config)
            except ValueError:
                raise InputError(self._where, "config in its extra is no JSON", _CONFIG) from None
        entries: list[Any] = config if isinstance(config, list) else [config]
        if not config or not all(isinstance(entry, dict) and entry.get("path") for entry in entries):
            raise InputError(self._where, "config in its extra is not set, or has an entry without path", _CONFIG)
        return entries

    def _apprise(self, services: apprise.Apprise, notice: Notice) -> None:
        with services.notify(
            title=notice.title,
            body=notice.body,
            notify_type=_APPRISE_TYPES[notice.severity],
            body_format=apprise.NotifyFormat.TEXT,
        ) as result:
            asked = len(result)
            # an optional service counts as a success there, whatever it answered
            took = sum(any(it.status == apprise.AppriseResultStatus.SUCCESS for it in each) for each in result)
            if not (took or result):
                raise NoticeFailed(
                    f"none of its {asked} services took it" if asked > 1 else "its service did not take it"
                )
        if took < asked:
            # those that took it would get it again each minute
            self.log.warning("%d of %d services did not take it", asked - took, asked)


def _letter(sender: str, to: Sequence[str], notice: Notice) -> str:
    letter = EmailMessage()
    letter["From"], letter["To"], letter["Subject"] = sender, ", ".join(to), notice.title
    letter["Date"] = localtime()
    # base64: sendmail wants ASCII
    letter.set_content(f"<pre>{escape(notice.body)}</pre>", subtype="html", cte="base64")
    return letter.as_string()


def _is_unsure(error: OSError) -> bool:
    """Return whether the server may have sent it: it neither refused nor accepted."""
    return isinstance(error, smtplib.SMTPServerDisconnected) or not isinstance(error, smtplib.SMTPException)


def _is_added(services: apprise.Apprise, entry: Mapping[str, Any]) -> bool:
    path = entry["path"]
    with _silenced("apprise"):
        try:
            return isinstance(path, str) and services.add(path, tag=entry.get("tag"))
        except Exception:  # noqa: BLE001  what a plugin raises over a URL may show it
            return False


@contextmanager
def _silenced(name: str) -> Iterator[None]:
    """Keep a library's logger quiet: it would log a URL that it can't read, with the password in it."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _nth(number: int) -> str:
    last = 0 if number % 100 in {11, 12, 13} else number % 10
    return f"{number}{({1: 'st', 2: 'nd', 3: 'rd'}).get(last, 'th')}"


def _codes(refused: Mapping[str, tuple[int, bytes]]) -> str:
    return ", ".join(f"{address} ({code})" for address, (code, _) in refused.items())


def _said(error: Exception) -> str:
    """Return why it was not sent, on one line: a library's own words may hold a URL with its password."""
    if isinstance(error, NoticeFailed):
        return str(error)
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = sorted({str(code) for code, _ in error.recipients.values()})
        return f"the server refused every address ({', '.join(codes)})"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"the server answered {error.smtp_code}"
    if smtplib.SMTPServerDisconnected in {type(error), type(error.__context__)}:
        return "the server ended the connection"
    reason = error.strerror if isinstance(error, OSError) else None
    return f"{type(error).__name__}{f': {reason}' if reason else ''}"
