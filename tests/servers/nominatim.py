"""An HTTP server on loopback that speaks Nominatim's search API, and can fail in all the ways a service does."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

# what the public service answers to /search?format=json&limit=1, shortened to the keys that stay the same
ANSWER = {
    "place_id": 221763212,
    "licence": "Data © OpenStreetMap contributors, ODbL 1.0. http://osm.org/copyright",
    "osm_type": "way",
    "osm_id": 224839182,
    "lat": "37.2893525",
    "lon": "127.0535312",
    "class": "building",
    "type": "yes",
    "place_rank": 30,
    "importance": 7.5e-05,
    "addresstype": "building",
    "name": "",
    "display_name": "154-42, 광교산로, 영통구, 수원시, 경기도, 16227, 대한민국",
    "boundingbox": ["37.2891525", "37.2895525", "127.0533312", "127.0537312"],
}

Reply = Callable[[BaseHTTPRequestHandler], None]


class NominatimServer:
    """A running server.

    :param reply: how it answers from now on
    :ivar requests: path, query text, User-Agent and monotonic time of each request
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.reply: Reply = answer([ANSWER])
        self.requests: list[tuple[str, str, str, float]] = []

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        """Note the request and answer it."""
        parts = urlsplit(request.path)
        query = parse_qs(parts.query)
        self.requests.append((parts.path, query["q"][0], request.headers["User-Agent"], time.monotonic()))
        self.reply(request)


def answer(content: object, status: int = 200) -> Reply:
    """Answer with ``content`` as JSON."""
    return raw(json.dumps(content, ensure_ascii=False).encode(), status)


def raw(body: bytes, status: int = 200) -> Reply:
    """Answer with these bytes."""

    def reply(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Type", "application/json; charset=utf-8")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return reply


def trickle(request: BaseHTTPRequestHandler) -> None:
    """Answer without end, a byte at a time, each of them in time."""
    request.send_response(200)
    request.end_headers()
    try:
        for _ in range(200):
            request.wfile.write(b" ")
            request.wfile.flush()
            time.sleep(0.05)
    except OSError:
        pass  # the client has had enough


def silence(_: BaseHTTPRequestHandler) -> None:
    """Say nothing for longer than a client waits."""
    time.sleep(2)


def hang_up(request: BaseHTTPRequestHandler) -> None:
    """Close without an answer."""
    request.close_connection = True


@contextmanager
def running_nominatim() -> Iterator[NominatimServer]:
    """Start a server, yield it, stop it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.handle(self)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            pass  # clients that go away are what some tests are about

    with Server(("127.0.0.1", 0), Handler) as http_server:
        server = NominatimServer(http_server.server_address[1])
        thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            http_server.shutdown()
            thread.join()
