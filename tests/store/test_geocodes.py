from __future__ import annotations

from sqlalchemy import Engine

from evc.store.geocodes import Geocode, find_geocode, store_geocode
from tests.store.batches import TS


def test_an_answer_is_kept_and_replaced(engine: Engine) -> None:
    with engine.begin() as connection:
        assert find_geocode(connection, "경기도 수원시") is None
        store_geocode(connection, "경기도 수원시", 37.26, 127.03, "gazetteer", TS)
        assert find_geocode(connection, "경기도 수원시") == Geocode(37.26, 127.03, "gazetteer", TS)
        store_geocode(connection, "경기도 수원시", 37.2636, 127.0286, "nominatim", TS + 1)
        assert find_geocode(connection, "경기도 수원시") == Geocode(37.2636, 127.0286, "nominatim", TS + 1)
        assert find_geocode(connection, "경기도") is None
