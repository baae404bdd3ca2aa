from __future__ import annotations

from sqlalchemy import Engine, select

from evc.store.registry_checks import record_check
from evc.store.tables import registry_checks

TS = 1_790_000_000


def test_a_failure_keeps_what_was_known_and_an_answer_ends_it(engine: Engine) -> None:
    looks = [
        (TS, None, TS + 900),
        (TS + 300, "does not answer", None),
        (TS + 600, None, TS + 1000),
    ]
    rows = []
    for ts, message, expires_ts in looks:
        with engine.begin() as connection:
            record_check(connection, "registry:5000", ts, message, expires_ts)
            rows.append(tuple(connection.execute(select(registry_checks)).one()))
    assert rows == [
        ("registry:5000", TS, TS, None, TS + 900),
        ("registry:5000", TS + 300, TS, "does not answer", TS + 900),
        ("registry:5000", TS + 600, TS + 600, None, TS + 1000),
    ]


def test_a_registry_that_never_answered(engine: Engine) -> None:
    with engine.begin() as connection:
        record_check(connection, "registry:5000", TS, "refused", None)
        assert tuple(connection.execute(select(registry_checks)).one()) == ("registry:5000", TS, None, "refused", None)
