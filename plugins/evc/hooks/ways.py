"""The ways by which a notice reaches people: mail, and the services that Apprise knows."""

from __future__ import annotations

import json
import logging
import smtplib
import ssl
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.message import EmailMessage
from email.utils import localtime
from typing import Any, Protocol

import apprise
from airflow.providers.smtp.hooks.smtp import SmtpHook
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowException

from evc.errors import InputError, NoticeFailed
from evc.fleet.log import Log
from evc.fleet.notices import Notice

_COLUMNS = 78
_APPRISE_TYPES = {"error": "failure", "warning": "warning", "info": "info"}
_URL = "in its password the URL of a service that Apprise knows, or several with spaces between them"


class NoAnswer(Exception):
    """The server has the message, or not: it did not say."""


class Way(Protocol):
    """Tells people."""

    def send(self, notice: Notice) -> str:
        """Return who was told, for the log; no secret is in it.

        :raises NoAnswer: told or not
        :raises NoticeFailed: nobody was told, for a reason that a person can read
        """


# -- mail --------------------------------------------------------------------------------------------------------------


class Mail:
    """Tells by a connection of type SMTP.

    :param conn_id: the connection's
    :param notify_to: addresses, with commas between them
    :raises InputError: it can be seen that nobody would be told
    """

    def __init__(self, conn_id: str, connection: Connection, notify_to: str, log: Log) -> None:
        self._conn_id, self._log = conn_id, log
        self.to = list(dict.fromkeys(address.strip() for address in notify_to.split(",") if address.strip()))
        if not self.to:
            raise InputError("[evc] notify_to", "names nobody", "mail addresses, with commas between them")
        where, extra = f"connection {conn_id}", connection.extra_dejson
        if not connection.host:
            raise InputError(where, "its host is not set", "name or address of a mail server")
        sender = extra.get("from_email")
        if not sender or not isinstance(sender, str):
            raise InputError(where, "from_email is not set in its extra", "the address that mails come from")
        self._sender: str = sender
        usual_port = smtplib.SMTP_PORT if extra.get("disable_ssl") else smtplib.SMTP_SSL_PORT
        self._server = f"{connection.host} port {connection.port or usual_port}"

    def send(self, notice: Notice) -> str:
        """Send one letter to all addresses; those that were refused are in the log.

        :raises NoAnswer: the server took it and did not say what becomes of it
        :raises NoticeFailed: the server could not be reached, or did not take it
        """
        try:
            refused = self._sent(notice)
        except OSError as error:
            raise NoticeFailed(f"{self._server}: {_mail_trouble(error)}") from None
        except AirflowException as error:
            # the hook tried several times; its own words do not say why that was in vain
            raise NoticeFailed(f"{self._server}: {_mail_trouble(error.__context__ or error)}") from None
        if refused:
            self._log.warning("%d of %d addresses were refused: %s", len(refused), len(self.to), _codes(refused))
        return ", ".join(address for address in self.to if address not in refused)

    def _sent(self, notice: Notice) -> Mapping[str, tuple[int, bytes]]:
        with SmtpHook(self._conn_id) as hook:
            # not by the hook's own send_email_smtp: it sends again after any error and drops who was refused
            client = hook._smtp_client
            if not isinstance(client, smtplib.SMTP):
                raise NoticeFailed("Airflow's SMTP hook gave no client of smtplib's")
            try:
                return client.sendmail(self._sender, self.to, _letter(self._sender, self.to, notice))
            except OSError as error:
                if _is_unsure(error):
                    raise NoAnswer from None
                raise


def _letter(sender: str, to: Sequence[str], notice: Notice) -> str:
    letter = EmailMessage()
    letter["From"], letter["To"], letter["Subject"] = sender, ", ".join(to), notice.title
    letter["Date"] = localtime()
    lines = (
        textwrap.fill(line, _COLUMNS, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
        for line in notice.body.splitlines()
    )
    # sendmail wants ASCII
    letter.set_content("\n".join(lines), cte="quoted-printable")
    return letter.as_string()


def _is_unsure(error: OSError) -> bool:
    """Return whether the server may have sent it: it neither refused nor accepted."""
    return isinstance(error, smtplib.SMTPServerDisconnected) or not isinstance(error, smtplib.SMTPException)


def _codes(refused: Mapping[str, tuple[int, bytes]]) -> str:
    return ", ".join(f"{address} ({code})" for address, (code, _) in refused.items())


def _mail_trouble(error: BaseException) -> str:
    """Return what is wrong, and what would be right; a server's own words may hold what is secret."""
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return _unsupported(error)
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = sorted({str(code) for code, _ in error.recipients.values()})
        return f"the server refused every address ({', '.join(codes)})"
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"the server refused login or password ({error.smtp_code})"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"the server answered {error.smtp_code}"
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return 'the server ended the connection; where it speaks TLS at once, no "disable_ssl" belongs in the extra'
    return _no_connection(error)


def _unsupported(error: smtplib.SMTPNotSupportedError) -> str:
    said = str(error)
    if "STARTTLS" in said:
        return (
            'the server offers no STARTTLS; allowed: "disable_tls": true in the extra, for TLS at once or a plain relay'
        )
    if "AUTH" in said:
        return "the server takes no login on this way; allowed: a connection without login, or one with TLS"
    return "the server does not know what this letter needs"


def _no_connection(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"}:
        return 'the server does not speak TLS at once; allowed: "disable_ssl": true in the extra, as for 587 and 25'
    if isinstance(error, TimeoutError):
        return "no answer in time"
    reason = error.strerror if isinstance(error, OSError) else None
    return reason or type(error).__name__


# -- Apprise -----------------------------------------------------------------------------------------------------------


class Services:
    """Tells by a connection of type Apprise: the URLs of its password, else those of its extra's ``config``.

    :param conn_id: the connection's
    :raises InputError: a URL is not there, or can't be read; it is named by its place, never shown
    """

    def __init__(self, conn_id: str, connection: Connection, log: Log) -> None:
        self._where, self._log = f"connection {conn_id}", log
        self._services = apprise.Apprise()
        for number, entry in enumerate(self._entries(connection), 1):
            if not _is_added(self._services, entry):
                raise InputError(self._where, f"its {_nth(number)} URL can't be read", _URL)
        for service in self._services:
            # a service refuses what is too long for it; an instance has the attribute where its URL says what to do
            if "overflow_mode" not in vars(service):
                service.overflow_mode = apprise.OverflowMode.SPLIT

    def _entries(self, connection: Connection) -> Sequence[Mapping[str, Any]]:
        if connection.password:
            return [{"path": url} for url in connection.password.split()]
        config = connection.extra_dejson.get("config")
        if isinstance(config, str):
            try:
                config = json.loads(config)
            except ValueError:
                raise InputError(self._where, "config in its extra is no JSON", _URL) from None
        if not config:
            raise InputError(self._where, "it names no service", _URL)
        entries: list[Any] = config if isinstance(config, list) else [config]
        if not all(isinstance(entry, dict) and entry.get("path") for entry in entries):
            raise InputError(self._where, "config in its extra has an entry without path", _URL)
        return entries

    def send(self, notice: Notice) -> str:
        """Tell all services; how many did not take it is in the log.

        :raises NoticeFailed: none took it
        """
        with self._services.notify(
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
            self._log.warning("%d of %d services did not take it", asked - took, asked)
        return f"{took} of {asked} services ({self._names()})" if asked > 1 else self._names()

    def _names(self) -> str:
        names = Counter(str(service.service_name) for service in self._services)
        return ", ".join(f"{count} {name}" if count > 1 else name for name, count in names.items())


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
