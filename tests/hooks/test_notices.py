"""People are told by a real mail server and a real Apprise service."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from evc.errors import InputError, NoticeFailed
from evc.fleet.nodes import Node
from evc.hooks.metrics import checked_engine
from evc.hooks.notices import NoticesHook
from evc.store.events import record_event
from evc.store.nodes import store_node
from tests.servers.airflow import DagRunner
from tests.servers.sshd import free_port

NOW = int(time.time())


class _Mailbox:
    def __init__(self) -> None:
        self.letters: list[Any] = []
        self.refuses = False

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if self.refuses:
            return "554 no"
        self.letters.append((envelope.rcpt_tos, message_from_bytes(envelope.content)))
        return "250 OK"


@pytest.fixture
def mailbox(dag_runner: DagRunner) -> Iterator[_Mailbox]:
    box = _Mailbox()
    server = Controller(box, hostname="127.0.0.1", port=free_port())
    server.start()
    extra = {"disable_ssl": True, "disable_tls": True, "from_email": "evc@example.org", "retry_limit": 1}
    dag_runner.connection("alerts", conn_type="smtp", host="127.0.0.1", port=server.port, extra=extra)
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
    dag_runner.connection("alerts", conn_type="apprise", extra={"config": {"path": path, "tag": "all"}})
    dag_runner.setting("notify_conn_id", "alerts")
    yield got
    server.shutdown()
    server.server_close()


def happen(*kinds: str) -> None:
    with checked_engine().begin() as connection:
        node_id, _ = store_node(connection, Node(name="farm-1", host="192.0.2.1"), NOW)
        for kind in kinds:
            record_event(connection, node_id, kind, "warning", "<b>hot</b>", NOW)


def tell() -> int:
    return NoticesHook(logging.getLogger("tests.notices")).tell(NOW)


def test_a_letter_tells_what_is_new_once(mailbox: _Mailbox) -> None:
    happen("anomaly")
    assert tell() == 1
    assert tell() == 0
    ((to, letter),) = mailbox.letters
    assert to == ["ops@example.org", "farm@example.org"]
    assert letter["Subject"] == "Edge Vision Cluster: 1 warning"
    body = next(part for part in letter.walk() if part.get_content_type() == "text/html").get_payload(decode=True)
    assert b"farm-1: anomaly: &lt;b&gt;hot&lt;/b&gt;" in body


def test_what_the_server_refuses_is_told_with_the_next(mailbox: _Mailbox) -> None:
    happen("anomaly")
    mailbox.refuses = True
    with pytest.raises(
        NoticeFailed, match=r"^connection alerts: the server answered 554; mend it, the next run tells these events$"
    ):
        tell()
    mailbox.refuses = False
    happen("down")
    assert tell() == 2
    assert len(mailbox.letters) == 1


def test_an_apprise_service_is_told(service: list[dict[str, Any]]) -> None:
    happen("anomaly")
    assert tell() == 1
    assert tell() == 0
    (told,) = service
    assert told["title"] == "Edge Vision Cluster: 1 warning"
    assert "farm-1: anomaly: <b>hot</b>" in told["message"]
    assert told["type"] == "warning"


def test_a_service_that_is_away_is_a_failure_without_its_password(
    dag_runner: DagRunner, service: list[dict[str, Any]]
) -> None:
    path = f"json://user:s3cret@127.0.0.1:{free_port()}"
    dag_runner.connection("alerts", conn_type="apprise", extra={"config": {"path": path, "tag": "all"}})
    happen("anomaly")
    with pytest.raises(NoticeFailed, match="a service did not take it") as caught:
        tell()
    assert "s3cret" not in str(caught.value)


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


def test_the_dag_is_skipped_where_nobody_is_to_be_told(dag_runner: DagRunner) -> None:
    assert dag_runner.run("notify_events") == {"notify": "skipped"}
