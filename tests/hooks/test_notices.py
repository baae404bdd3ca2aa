"""People are told by a real mail server and a real Apprise service."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from airflow.sdk.exceptions import AirflowSkipException
from structlog.testing import capture_logs

from evc.errors import InputError, NoticeFailed
from evc.fleet.nodes import Node
from evc.hooks.metrics import checked_engine
from evc.hooks.notices import NoticesHook
from evc.operators.notify_events import NotifyEventsOperator
from evc.store.database import embedded_url, open_engine, upgrade
from evc.store.events import record_event
from evc.store.nodes import store_node
from tests.servers.airflow import DagRunner
from tests.servers.sshd import free_port

NOW = int(time.time())
LOG = "tests.notices"
SMTP_EXTRA = {"disable_ssl": True, "disable_tls": True, "from_email": "evc@example.org", "retry_limit": 1}


class _Mailbox:
    """:ivar then: what happens to a letter after it was taken: "" (the sender hears so), "late" or "cut"."""

    def __init__(self) -> None:
        self.letters: list[Any] = []
        self.refuses = False
        self.unknown: set[str] = set()
        self.then = ""
        self.port = free_port()

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        if address in self.unknown:
            return "550 no such user s3cret"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if self.refuses:
            return "554 no"
        self.letters.append((envelope.rcpt_tos, message_from_bytes(envelope.content)))
        if self.then == "late":
            await asyncio.sleep(60)
        if self.then == "cut":
            server.transport.abort()
        return "250 OK"


@pytest.fixture
def mailbox(dag_runner: DagRunner) -> Iterator[_Mailbox]:
    box = _Mailbox()
    server = Controller(box, hostname="127.0.0.1", port=box.port)
    server.start()
    dag_runner.connection("alerts", conn_type="smtp", host="127.0.0.1", port=box.port, extra=SMTP_EXTRA)
    dag_runner.setting("notify_conn_id", "alerts")
    dag_runner.setting("notify_to", "ops@example.org, farm@example.org")
    yield box
    server.stop()


@pytest.fixture
def service(dag_runner: DagRunner) -> Iterator[list[dict[str, Any]]]:
    """An Apprise service: whatever takes JSON by HTTP."""
    got: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    path = f"json://user:s3cret@127.0.0.1:{server.server_port}"
    apprise_connection(dag_runner, path)
    yield got
    server.shutdown()
    server.server_close()


def apprise_connection(dag_runner: DagRunner, *paths: str) -> None:
    config = [{"path": path, "tag": "all"} for path in paths]
    dag_runner.connection("alerts", conn_type="apprise", extra={"config": config if len(config) > 1 else config[0]})
    dag_runner.setting("notify_conn_id", "alerts")


def apprise_path() -> str:
    """The URL of the service that works."""
    return str(json.loads(os.environ["AIRFLOW_CONN_ALERTS"])["extra"]["config"]["path"])


def happen(*kinds: str, message: str = "<b>hot</b>") -> None:
    with checked_engine().begin() as connection:
        node_id, _ = store_node(connection, Node(name="farm-1", host="192.0.2.1"), NOW)
        for kind in kinds:
            record_event(connection, node_id, kind, "warning", message, NOW)


def tell() -> int:
    return NoticesHook(logging.getLogger(LOG)).tell(NOW)


def test_a_letter_tells_what_is_new_once(mailbox: _Mailbox) -> None:
    happen("anomaly")
    assert tell() == 1
    assert tell() == 0
    ((to, letter),) = mailbox.letters
    assert to == ["ops@example.org", "farm@example.org"]
    assert letter["Subject"] == "Edge Vision Cluster: 1 warning"
    assert letter.get_content_type() == "text/plain"
    assert b"farm-1: anomaly: <b>hot</b>" in letter.get_payload(decode=True)


def test_the_lines_of_a_letter_wrap(mailbox: _Mailbox) -> None:
    happen(
        "anomaly",
        message="temperature 78 °C, usually 46 °C to 55 °C at this hour of the week; memory 0.24, usually 0.04",
    )
    assert tell() == 1
    ((_, letter),) = mailbox.letters
    first, second, *others = letter.get_payload(decode=True).decode().splitlines()
    assert first.endswith("temperature 78 °C, usually 46 °C to")
    assert second.startswith("    55 °C at this hour")
    assert len(others) == 0


def test_the_log_says_who_was_told_of_what(mailbox: _Mailbox, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    tell()
    mailbox.unknown = {"farm@example.org"}
    happen("anomaly")
    tell()
    assert [it.message for it in caplog.records if it.name == LOG and it.levelname == "INFO"] == [
        "nothing new of warning or worse",
        "told ops@example.org: 1 warning (anomaly: farm-1)",
    ]


def test_what_the_server_refuses_is_told_with_the_next(mailbox: _Mailbox) -> None:
    happen("anomaly")
    mailbox.refuses = True
    with pytest.raises(
        NoticeFailed,
        match=r"^connection alerts: 127\S+ port \d+: the server answered 554; mend it, the next run tells these",
    ):
        tell()
    mailbox.refuses = False
    happen("down")
    assert tell() == 2
    assert len(mailbox.letters) == 1


def test_a_server_that_is_away_is_told_later(dag_runner: DagRunner, mailbox: _Mailbox) -> None:
    happen("anomaly")
    port = free_port()
    dag_runner.connection("alerts", conn_type="smtp", host="127.0.0.1", port=port, extra=SMTP_EXTRA)
    with pytest.raises(NoticeFailed, match=f"^connection alerts: 127.0.0.1 port {port}: Connection refused; mend it"):
        tell()
    dag_runner.connection("alerts", conn_type="smtp", host="127.0.0.1", port=mailbox.port, extra=SMTP_EXTRA)
    assert tell() == 1


@pytest.mark.parametrize("then", ["late", "cut"])
def test_a_letter_whose_server_does_not_say_is_not_sent_again(
    dag_runner: DagRunner, mailbox: _Mailbox, caplog: pytest.LogCaptureFixture, then: str
) -> None:
    extra = {**SMTP_EXTRA, "timeout": 1, "retry_limit": 5}
    dag_runner.connection("alerts", conn_type="smtp", host="127.0.0.1", port=mailbox.port, extra=extra)
    happen("anomaly")
    mailbox.then = then
    assert tell() == 0
    assert "told or not: the server did not answer" in caplog.text
    mailbox.then = ""
    assert tell() == 0
    assert len(mailbox.letters) == 1
    happen("down")
    assert tell() == 1


def test_addresses_that_are_refused_are_in_the_log(mailbox: _Mailbox, caplog: pytest.LogCaptureFixture) -> None:
    mailbox.unknown = {"farm@example.org"}
    happen("anomaly")
    assert tell() == 1
    assert [to for to, _ in mailbox.letters] == [["ops@example.org"]]
    assert "1 of 2 addresses were refused: farm@example.org (550)" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_letter_that_every_address_refuses_is_told_with_the_next(mailbox: _Mailbox) -> None:
    mailbox.unknown = {"ops@example.org", "farm@example.org"}
    happen("anomaly")
    with pytest.raises(
        NoticeFailed, match=r"^connection alerts: .*: the server refused every address \(550\); mend it"
    ):
        tell()
    mailbox.unknown = set()
    assert tell() == 1


@pytest.mark.parametrize(
    ("lacks", "more", "said"),
    [
        ("disable_tls", {}, 'the server offers no STARTTLS; allowed: "disable_tls": true in the extra, for'),
        ("disable_ssl", {}, 'the server does not speak TLS at once; allowed: "disable_ssl": true in the extra'),
        ("", {"login": "evc", "password": "s3cret"}, "the server takes no login on this way; allowed: a connection"),
    ],
)
def test_what_a_mail_server_does_not_do_is_said_with_what_helps(
    dag_runner: DagRunner, mailbox: _Mailbox, lacks: str, more: dict[str, str], said: str
) -> None:
    extra = {name: value for name, value in SMTP_EXTRA.items() if name != lacks}
    dag_runner.connection("alerts", conn_type="smtp", host="127.0.0.1", port=mailbox.port, extra=extra, **more)
    happen("anomaly")
    with pytest.raises(NoticeFailed, match=f"^connection alerts: 127.0.0.1 port {mailbox.port}: {said}") as caught:
        tell()
    assert "s3cret" not in str(caught.value)


def test_a_mail_server_that_nobody_knows_is_named(dag_runner: DagRunner, mailbox: _Mailbox) -> None:
    dag_runner.connection("alerts", conn_type="smtp", host="nowhere.invalid", extra=SMTP_EXTRA)
    happen("anomaly")
    with pytest.raises(NoticeFailed, match=r"^connection alerts: nowhere\.invalid port 25: .+; mend it"):
        tell()


@pytest.fixture
def locked(dag_runner: DagRunner, mailbox: _Mailbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    """The metrics database, which another process locks as soon as the server refused the letter."""
    file = dag_runner.state_folder / "metrics.db"
    file.parent.mkdir(parents=True)
    upgrade(open_engine(embedded_url(dag_runner.state_folder)))
    dag_runner.connection("evc_metrics", conn_type="sqlite", schema=str(file), extra={"timeout": "0.1"})
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)

    async def refuse(*_: Any) -> str:
        other.execute("BEGIN EXCLUSIVE")
        return "554 no"

    monkeypatch.setattr(mailbox, "handle_DATA", refuse, raising=True)
    happen("anomaly")
    yield other
    other.close()


def told_while_locked(pause: Callable[[float], None]) -> str:
    with pytest.raises(NoticeFailed) as caught:
        NoticesHook(logging.getLogger(LOG), pause).tell(NOW)
    return str(caught.value)


def test_events_are_given_back_when_the_database_is_back(locked: sqlite3.Connection) -> None:
    said = told_while_locked(lambda _: locked.rollback())
    assert said.endswith("the server answered 554; mend it, the next run tells these events")
    with checked_engine().connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM event_notices").scalar() == 0


def test_a_database_that_stays_away_is_told_of(locked: sqlite3.Connection) -> None:
    pauses: list[float] = []
    said = told_while_locked(pauses.append)
    assert "the server answered 554; nobody will be told of its events (1), which" in said
    assert pauses == [1, 2, 4]


def test_an_apprise_service_is_told(service: list[dict[str, Any]]) -> None:
    happen("anomaly")
    assert tell() == 1
    assert tell() == 0
    (told,) = service
    assert told["title"] == "Edge Vision Cluster: 1 warning"
    assert "farm-1: anomaly: <b>hot</b>" in told["message"]
    assert told["type"] == "warning"


def test_services_are_named_by_their_password_and_counted_in_the_log(
    dag_runner: DagRunner, service: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    url = apprise_path()
    happen("anomaly")
    dag_runner.connection("alerts", conn_type="apprise", password=f"{url} {url}?format=html")
    assert tell() == 1
    assert len(service) == 2
    assert "told 2 of 2 services (2 JSON): 1 warning (anomaly: farm-1)" in caplog.text
    dag_runner.connection("alerts", conn_type="apprise", password=url)
    happen("down")
    tell()
    assert "told JSON: 1 warning (down: farm-1)" in caplog.text
    dag_runner.connection("alerts", conn_type="apprise", password=f"{url} json//s3cret")
    with pytest.raises(InputError, match="its 2nd URL can't be read") as caught:
        tell()
    assert "s3cret" not in str(caught.value) + caplog.text


def test_airflow_hides_the_password_of_a_connection_that_is_stored(dag_runner: DagRunner) -> None:
    from airflow.api_fastapi.core_api.datamodels.connections import ConnectionResponse
    from airflow.models.connection import Connection
    from airflow.models.log import Log
    from airflow.utils.session import create_session

    stored = json.dumps({"conn_type": "apprise", "password": "slack://T1JJ3T3L2/A1BRTD4JD/s3cret"})
    command = [sys.executable, "-m", "airflow", "connections", "add", "stored_alerts", "--conn-json", stored]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    with create_session() as session:
        (audit,) = session.query(Log).filter(Log.event == "cli_connections_add").all()
        assert "stored_alerts" in str(audit.extra)
        session.query(Connection).filter(Connection.conn_id == "stored_alerts").delete()
    given = Connection(conn_id="stored_alerts", **json.loads(stored))
    shown = ConnectionResponse.model_validate(given).model_dump_json()
    assert '"***"' in shown
    assert "s3cret" not in str(audit.extra) + shown + done.stdout + done.stderr


def test_a_service_that_is_away_is_a_failure_without_its_password(
    dag_runner: DagRunner, service: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    apprise_connection(dag_runner, f"json://user:s3cret@127.0.0.1:{free_port()}")
    happen("anomaly")
    with pytest.raises(NoticeFailed, match="^connection alerts: its service did not take it; mend it") as caught:
        tell()
    assert "s3cret" not in str(caught.value) + caplog.text


def test_one_of_two_services_is_enough(
    dag_runner: DagRunner, service: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    away = f"json://user:s3cret@127.0.0.1:{free_port()}/s3cret"
    works = apprise_path()
    apprise_connection(dag_runner, away, works)
    happen("anomaly")
    assert tell() == 1
    assert tell() == 0
    assert len(service) == 1
    assert "1 of 2 services did not take it" in caplog.text
    assert "s3cret" not in caplog.text
    apprise_connection(dag_runner, away, away)
    happen("down")
    with pytest.raises(NoticeFailed, match="none of its 2 services took it"):
        tell()


@pytest.mark.parametrize(("query", "parts"), [("", 2), ("&overflow=truncate", 1)])
def test_what_is_too_long_for_a_service_comes_in_parts(
    dag_runner: DagRunner, service: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, query: str, parts: int
) -> None:
    path = apprise_path()
    apprise_connection(dag_runner, f"{path}?format=html{query}")
    monkeypatch.setattr("apprise.plugins.custom_json.NotifyJSON.body_maxlen", 250)
    happen("anomaly", "down", "hot")
    assert tell() == 3
    assert len(service) == parts
    assert "&lt;b&gt;hot&lt;/b&gt;" in service[0]["message"]  # a service of HTML gets text, not a node's tags


@pytest.mark.parametrize(
    "path",
    [
        "https://hooks.slack.com/services/T1/s3cret",
        "json//user:s3cret@host",
        "foo://user:s3cret@host/x",
        "jsons://user:s3cret@bad host:99999999/",
        "json://[s3cret",
        "",
        ["s3cret"],
    ],
)
def test_an_url_that_cannot_be_read_is_refused_and_stays_secret(
    dag_runner: DagRunner, service: list[dict[str, Any]], caplog: pytest.LogCaptureFixture, path: Any
) -> None:
    works = apprise_path()
    apprise_connection(dag_runner, works, path)
    happen("anomaly")
    said = "its 2nd URL can't be read" if path else "config in its extra has an entry without path"
    with caplog.at_level(logging.DEBUG), pytest.raises(InputError, match=f"^connection alerts: .*{said}") as caught:
        tell()
    assert "s3cret" not in str(caught.value) + caplog.text
    assert service == []
    apprise_connection(dag_runner, works)
    assert tell() == 1


@pytest.mark.parametrize(
    ("conn_type", "to", "said"),
    [
        ("ssh", "", r"notify_conn_id: \"alerts\" is of type \"ssh\"; allowed: a connection of type smtp or apprise"),
        ("smtp", " , ", "notify_to: names nobody"),
        ("", "", r"notify_conn_id: there is no connection \"alerts\""),
    ],
)
def test_what_can_tell_nobody_is_refused_before_anything_is_taken(
    dag_runner: DagRunner, conn_type: str, to: str, said: str
) -> None:
    dag_runner.setting("notify_conn_id", "alerts")
    dag_runner.setting("notify_to", to)
    if conn_type:
        dag_runner.connection("alerts", conn_type=conn_type)
    with pytest.raises(InputError, match=said):
        tell()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"conn_type": "smtp", "host": "127.0.0.1"}, "from_email is not set in its extra; allowed: the address that"),
        ({"conn_type": "smtp", "extra": SMTP_EXTRA}, "its host is not set; allowed: name or address of a mail server"),
        ({"conn_type": "apprise"}, "it names no service; allowed: in its password the URL of a service that Apprise"),
        ({"conn_type": "apprise", "extra": {"config": "json://s3cret"}}, "config in its extra is no JSON; allowed:"),
        ({"conn_type": "apprise", "extra": {"config": []}}, "it names no service"),
        (
            {"conn_type": "apprise", "extra": {"config": [{"tag": "a"}]}},
            "config in its extra has an entry without path",
        ),
    ],
)
def test_what_a_connection_lacks_is_named(dag_runner: DagRunner, fields: dict[str, Any], said: str) -> None:
    dag_runner.setting("notify_conn_id", "alerts")
    dag_runner.setting("notify_to", "ops@example.org")
    dag_runner.connection("alerts", **fields)
    with pytest.raises(InputError, match=f"^connection alerts: {said}") as caught:
        tell()
    assert "s3cret" not in str(caught.value)


def test_the_dag_is_skipped_where_nobody_is_to_be_told(dag_runner: DagRunner) -> None:
    assert dag_runner.run("notify_events") == {"notify": "skipped"}


def test_the_log_says_that_nobody_is_to_be_told(dag_runner: DagRunner) -> None:
    task = NotifyEventsOperator(task_id="notify")
    with capture_logs() as lines, pytest.raises(AirflowSkipException):
        task.execute({})
    said = "nobody is to be told: [evc] notify_conn_id is not set where this task runs"
    assert ("info", said) in [(line["log_level"], line["event"]) for line in lines]
