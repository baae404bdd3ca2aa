"""What became of the last look at each registry: whether it answered, and when its certificate ends."""

from __future__ import annotations

from sqlalchemy import Connection

from evc.store.dialects import insert_into
from evc.store.tables import registry_checks


def record_check(
    connection: Connection, address: str, ts: int, message: str | None, certificate_expires_ts: int | None
) -> None:
    """Record a look at a registry.

    :param address: ``host:port``
    :param message: why it failed; None: it answered
    :param certificate_expires_ts: of the certificate that it came with; None leaves what is known
    """
    row = {"checked_ts": ts, "message": message}
    if message is None:
        row["answered_ts"] = ts
    if certificate_expires_ts is not None:
        row["certificate_expires_ts"] = certificate_expires_ts
    made = insert_into(connection, registry_checks).values(address=address, **row)
    connection.execute(made.on_conflict_do_update(index_elements=["address"], set_=row))
