"""The service, on a real HTTP server that speaks its API."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from evc.errors import GeocodingError, InputError
from evc.places.nominatim import Nominatim
from evc.places.pace import Pace
from evc.places.place import Place
from tests.servers.nominatim import (
    ANSWER,
    NominatimServer,
    Reply,
    answer,
    hang_up,
    raw,
    running_nominatim,
    silence,
    trickle,
)
from tests.servers.sshd import free_port

ADDRESS = "경기도 수원시 영통구 광교산로 154-42"


@pytest.fixture
def server() -> Iterator[NominatimServer]:
    with running_nominatim() as server:
        yield server


@pytest.fixture
def pace(tmp_path: Path) -> Pace:
    return Pace(tmp_path / "pace", 0.0)


def test_an_answer(server: NominatimServer, pace: Pace) -> None:
    expected = Place(37.2893525, 127.0535312, "nominatim", str(ANSWER["display_name"]), "address")
    assert Nominatim(server.url, pace).find(ADDRESS) == expected
    path, query, user_agent, _ = server.requests[0]
    assert (path, query) == ("/search", ADDRESS)
    assert user_agent == f"edge-vision-cluster/{importlib.metadata.version('edge-vision-cluster')}"


def test_the_base_url_may_have_a_path(server: NominatimServer, pace: Pace) -> None:
    assert Nominatim(f"{server.url}/maps/nominatim/", pace).find(ADDRESS)
    assert server.requests[0][0] == "/maps/nominatim/search"


@pytest.mark.parametrize("content", [[], {"error": "Unable to geocode"}])
def test_an_empty_answer_is_no_place(server: NominatimServer, pace: Pace, content: object) -> None:
    server.reply = answer(content)
    assert Nominatim(server.url, pace).find("asdf") is None


FAILURES: dict[str, tuple[Reply, str]] = {
    "500": (answer({"error": "Internal"}, 500), "answered with an error: HTTP 500"),
    "429": (answer({}, 429), r"asks for fewer requests \(429\)"),
    "403": (raw(b"Access blocked", 403), r"refuses us \(403\)"),
    "502": (raw(b"<html>", 502), "answered with an error: HTTP 502"),
    "silence": (silence, "did not answer in 0.5 s"),
    "trickle": (trickle, "did not answer in 0.5 s"),
    "hang up": (hang_up, "is not there"),
    "html": (raw(b"<html>login</html>"), "another format"),
    "number": (answer(5), "another format"),
    "empty object": (answer([{}]), "another format"),
    "words": (answer([{**ANSWER, "lat": "north"}]), "another format"),
    "off Earth": (answer([{**ANSWER, "lat": "91.0"}]), "another format"),
    "not a number": (answer([{**ANSWER, "lon": "NaN"}]), "another format"),
    "binary": (raw(b"\xff\xfe\x00"), "another format"),
    "2 MB": (raw(b" " * 2_000_000), "another format"),
}


@pytest.mark.filterwarnings("ignore:Latitude normalization")  # geopy's, of a point off Earth
@pytest.mark.parametrize("case", FAILURES)
def test_failures_are_one_line(server: NominatimServer, pace: Pace, case: str) -> None:
    server.reply, expected = FAILURES[case]
    started = time.monotonic()
    with pytest.raises(GeocodingError, match=expected) as raised:
        Nominatim(server.url, pace, timeout_s=0.5).find(ADDRESS)
    assert str(raised.value).startswith(server.url.removeprefix("http://"))
    assert "\n" not in str(raised.value)
    assert time.monotonic() - started < 5


def test_nobody_listens(pace: Pace) -> None:
    with pytest.raises(GeocodingError, match="is not there: Connection refused"):
        Nominatim(f"http://127.0.0.1:{free_port()}", pace).find(ADDRESS)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nominatim.example",
        "ftp://host",
        "file:///etc/passwd",
        "http://",
        "http://h:99999",
        "http://h?x=1",
        "http://h/\n",
        "http://u:hunter2@h",
    ],
)
def test_a_wrong_base_url_is_refused(url: str, pace: Pace) -> None:
    with pytest.raises(InputError, match="nominatim_url") as raised:
        Nominatim(url, pace)
    assert "hunter2" not in str(raised.value)


PACED = """
import sys
from pathlib import Path
from evc.places.nominatim import Nominatim
from evc.places.pace import Pace
service = Nominatim(sys.argv[1], Pace(Path(sys.argv[2])))
for address in sys.argv[3:]:
    service.find(address)
"""


def test_one_request_a_second_over_two_processes(server: NominatimServer, tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", PACED, server.url, str(tmp_path / "pace"), *addresses])
        for addresses in (["a", "b"], ["c"])
    ]
    assert [process.wait(30) for process in processes] == [0, 0]
    times = [request[3] for request in server.requests]
    assert sorted(request[1] for request in server.requests) == ["a", "b", "c"]
    # the pace is kept at the sender: what is between it and here may differ from one request to the next
    assert all(later - earlier > 0.8 for earlier, later in itertools.pairwise(times)), json.dumps(times)
