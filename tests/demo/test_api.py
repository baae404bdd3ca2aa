"""Airflow's API as the demo asks it: what is busy is asked again, and nothing happens twice."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from demo import api
from demo.api import Api
from demo.state import DemoError


class _Server(HTTPServer):
    """Answers the codes in ``codes`` one after the other, then 200."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.codes: list[int] = []
        self.asked: list[tuple[str, str, dict[str, object]]] = []


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def answer(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        token = self.path == "/auth/token"
        if not token:
            self.server.asked.append((self.command, self.path, body))
        self.send_response(200 if token or not self.server.codes else self.server.codes.pop(0))
        self.end_headers()
        self.wfile.write(json.dumps({"access_token": "t", "detail": "Database error"}).encode())

    do_GET = do_POST = do_PATCH = answer  # noqa: N815  what http.server calls

    def log_message(self, *args: object) -> None:
        """Nothing on the console of a test."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Server]:
    monkeypatch.setattr(api, "BUSY_WAITS_S", (0.0, 0.0))
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _api(server: _Server) -> Api:
    return Api(f"http://127.0.0.1:{server.server_port}", "admin", "secret")


def test_what_is_busy_is_asked_again(server: _Server) -> None:
    server.codes = [500, 503]
    _api(server).unpause("maintain_metrics")
    assert server.asked == [("PATCH", "/api/v2/dags/maintain_metrics", {"is_paused": False})] * 3


def test_an_error_that_stays_is_said(server: _Server) -> None:
    server.codes = [500] * 9
    with pytest.raises(DemoError, match="Airflow answered 500 to PATCH /api/v2/dags/x: Database error"):
        _api(server).unpause("x")
    assert len(server.asked) == 3


def test_a_run_is_started_once(server: _Server) -> None:
    server.codes = [500, 409]
    run_id = _api(server).trigger("collect_telemetry", {"sweeps": 2})
    assert [body["dag_run_id"] for _, _, body in server.asked] == [run_id] * 2


def test_what_is_refused_is_not_asked_again(server: _Server) -> None:
    server.codes = [422]
    with pytest.raises(DemoError, match="answered 422"):
        _api(server).trigger("register_node", {"name": "a b"})
    assert len(server.asked) == 1
