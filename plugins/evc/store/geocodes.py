"""What geocoding services have answered, kept so that no address is asked twice."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select

from evc.store.dialects import insert_into
from evc.store.tables import geocodes


@dataclass(frozen=True, slots=True)
class Geocode:
    """Where an address is, degrees north and east (WGS 84).

    :param source: who said so
    :param ts: when, unix seconds
    """

    latitude: float
    longitude: float
    source: str
    ts: int


def find_geocode(connection: Connection, address: str) -> Geocode | None:
    """Return what is known of ``address``."""
    columns = (geocodes.c.latitude, geocodes.c.longitude, geocodes.c.source, geocodes.c.ts)
    row = connection.execute(select(*columns).where(geocodes.c.address == address)).first()
    return Geocode(*row) if row else None


def store_geocode(
    connection: Connection, address: str, latitude: float, longitude: float, source: str, ts: int
) -> None:
    """Keep an answer; a later one replaces it."""
    values = {"latitude": latitude, "longitude": longitude, "source": source, "ts": ts}
    statement = insert_into(connection, geocodes).values(address=address, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["address"], set_=values))
