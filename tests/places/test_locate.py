"""Which source answers, and when each of them is asked."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from evc.errors import GeocodingError
from evc.places import gazetteer
from evc.places.locate import Located, locate
from evc.places.nominatim import Nominatim
from evc.places.pace import Pace
from evc.places.place import Place
from evc.store.database import embedded_url, open_engine, upgrade
from evc.store.geocodes import Geocode, find_geocode, store_geocode
from tests.servers.nominatim import answer, running_nominatim
from tests.servers.sshd import free_port

TS = 1_700_000_000
DAY_S = 86_400
ONLINE = Place(37.5, 127.0, "nominatim", "n", "address")
OFFLINE = Place(37.0, 127.5, "gazetteer", "g", "city")
LOG = logging.getLogger("test")


@dataclass
class Service:
    """Answers what it is told; a failure is an exception."""

    replies: list[Place | GeocodingError | None]
    asked: list[str] = field(default_factory=list)

    def find(self, address: str) -> Place | None:
        self.asked.append(address)
        reply = self.replies.pop(0)
        if isinstance(reply, GeocodingError):
            raise reply
        return reply


def located(
    addresses: list[str],
    *replies: Place | GeocodingError | None,
    known: dict[str, Geocode] | None = None,
    offline: Place | None = OFFLINE,
) -> tuple[list[Located], list[str]]:
    service = Service(list(replies))
    found = locate(addresses, (known or {}).get, service.find, lambda _: offline, now_ts=TS, log=LOG)
    return list(found), service.asked


def test_the_service_comes_before_the_gazetteer() -> None:
    assert located(["a"], ONLINE) == ([Located("a", ONLINE, fresh=True, asked=True)], ["a"])


def test_what_the_service_does_not_know_the_gazetteer_may() -> None:
    assert located(["a"], None)[0] == [Located("a", OFFLINE, fresh=True, asked=True)]
    assert located(["a"], None, offline=None)[0] == [Located("a", None, fresh=False, asked=True)]


def test_an_address_is_asked_for_once() -> None:
    assert located(["a", "b", "a"], ONLINE, ONLINE)[1] == ["a", "b"]


@pytest.mark.parametrize("age_s", [0, 1000 * DAY_S])
def test_what_the_service_once_said_stays(age_s: int) -> None:
    found, asked = located(["a"], known={"a": Geocode(1.0, 2.0, "nominatim", TS - age_s)})
    assert asked == []
    assert found == [Located("a", Place(1.0, 2.0, "nominatim", "", ""), fresh=False, asked=True)]


def test_what_the_gazetteer_said_is_asked_for_again_a_day_later() -> None:
    young, old = Geocode(1.0, 2.0, "gazetteer", TS - DAY_S + 1), Geocode(1.0, 2.0, "gazetteer", TS - DAY_S)
    assert located(["a"], known={"a": young})[1] == []
    assert located(["a"], ONLINE, known={"a": old}) == ([Located("a", ONLINE, fresh=True, asked=True)], ["a"])
    assert located(["a"], None, known={"a": old}, offline=None)[0][0].place == Place(1.0, 2.0, "gazetteer", "", "")


def test_a_service_that_is_away_is_noticed_once(caplog: pytest.LogCaptureFixture) -> None:
    away = GeocodingError("nominatim.example: is not there")
    with caplog.at_level(logging.WARNING, "test"):
        found, asked = located([str(number) for number in range(1000)], away, away)
    assert asked == ["0", "1"]
    assert [one.place for one in found] == [OFFLINE] * 1000
    assert not any(one.asked for one in found)
    assert caplog.messages == [
        "nominatim.example: is not there; the rest of this run goes on with the offline gazetteer"
    ]


def test_one_failure_between_answers_is_not_away() -> None:
    failure = GeocodingError("slow")
    assert located(["a", "b", "c", "d"], failure, ONLINE, failure, ONLINE)[1] == ["a", "b", "c", "d"]


def test_no_service_is_configured() -> None:
    found = list(locate(["a"], lambda _: None, None, lambda _: OFFLINE, now_ts=TS, log=LOG))
    assert found == [Located("a", OFFLINE, fresh=True, asked=False)]


def test_with_the_real_parts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Service, gazetteer and the table of known answers, over three runs: away, back, and never asked again."""
    engine = open_engine(embedded_url(tmp_path))
    upgrade(engine)
    addresses = ["경기도 수원시 영통구 광교산로 154-42", "asdf", "서울특별시 강남구 테헤란로 1"]

    def run(url: str, ts: int) -> list[tuple[str, str | None]]:
        online: Callable[[str], Place | None] = Nominatim(url, Pace(tmp_path / "pace", 0.0)).find
        with engine.begin() as connection:
            found = []
            for one in locate(
                addresses, lambda address: find_geocode(connection, address), online, gazetteer.find, now_ts=ts, log=LOG
            ):
                found.append((one.address, one.place.source if one.place else None))
                if one.fresh and one.place:
                    store_geocode(
                        connection, one.address, one.place.latitude, one.place.longitude, one.place.source, ts
                    )
        return found

    sources = [(address, "gazetteer" if address != "asdf" else None) for address in addresses]
    assert run(f"http://127.0.0.1:{free_port()}", TS) == sources
    assert "the offline gazetteer" in caplog.text
    with running_nominatim() as server:
        assert run(server.url, TS + DAY_S)[0] == (addresses[0], "nominatim")
        server.reply = answer([])
        server.requests.clear()
        assert run(server.url, TS + 2 * DAY_S)[0] == (addresses[0], "nominatim")
        assert [request[1] for request in server.requests] == []
    engine.dispose()
