from __future__ import annotations

import logging

import pytest

from evc.store.rows import Rows, shape_of
from evc.store.writer import TABLES
from tests.store.batches import TS, reading, sample


def zone(node_id: int, name: str | None, celsius: float | None, ts: int = TS) -> dict[str, object]:
    return {"ts": ts, "node_id": node_id, "zone": name, "celsius": celsius}


def test_rows_come_in_the_order_of_their_key() -> None:
    given = [zone(2, "b", 1.0), zone(1, "b", 2.0), zone(2, "a", 3.0), zone(1, "b", 4.0, TS - 30)]
    assert Rows.of("temperature_samples", given).complete({1, 2}) == [
        (TS - 30, 1, "b", 4.0),
        (TS, 1, "b", 2.0),
        (TS, 2, "a", 3.0),
        (TS, 2, "b", 1.0),
    ]


def test_what_is_not_given_is_null() -> None:
    row = dict(
        zip(
            shape_of("node_samples").names,
            Rows.of("node_samples", [{"ts": TS, "node_id": 1, "up": 0}]).complete({1})[0],
            strict=True,
        )
    )
    assert {name for name, value in row.items() if value is not None} == {"ts", "node_id", "up"}


def test_a_row_without_what_must_be_there_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    given = [zone(1, "a", float("nan")), zone(1, None, 2.0), zone(1, "b", 3.0), zone(None, "b", 3.0)]  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        assert Rows.of("temperature_samples", given).complete({1}) == [(TS, 1, "b", 3.0)]
    assert sorted(caplog.messages) == [
        "temperature_samples: left out 1 rows without celsius",
        "temperature_samples: left out 1 rows without node_id",
        "temperature_samples: left out 1 rows without zone",
    ]


def test_rows_of_an_unknown_node_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        rows = Rows.of("node_samples", [sample(node_id) for node_id in range(1, 15)]).complete({2})
    assert [row[1] for row in rows] == [2]
    assert caplog.messages == [
        "node_samples: left out the rows of nodes that are not registered, ids 1, 3, 4, 5, 6, 7, 8, 9, 10, 11 ..."
    ]


def test_of_two_readings_of_a_node_the_newest_is_kept() -> None:
    rows = Rows.of("node_readings", [reading(1, TS + 30), reading(2), reading(1)]).complete({1, 2})
    assert [row[:2] for row in rows] == [(1, TS + 30), (2, TS)]


def test_an_unknown_column_is_a_fault_of_ours() -> None:
    with pytest.raises(ValueError, match=r"table sweeps has no columns \['colour'\]"):
        Rows.of("sweeps", [{"colour": "blue"}])


@pytest.mark.parametrize("name", TABLES)
def test_every_table_of_a_batch_has_a_shape(name: str) -> None:
    shape = shape_of(name)
    assert len(shape.cleaners) == len(shape.names)
    assert set(shape.key) <= set(shape.required)
    assert shape.newest_wins == (name == "node_readings")
