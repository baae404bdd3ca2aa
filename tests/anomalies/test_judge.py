"""What is an anomaly and what is not: arrays in, findings out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from evc.anomalies.judge import Finding, Group, Values, Watch, judge, usual
from evc.anomalies.watched import WATCHED
from evc.anomalies.windows import DAY_POINTS, DAYS, RECENT, WEEK_POINTS, WEEKS

PLACE = {quantity.name: place for place, quantity in enumerate(WATCHED)}
USUAL = {
    "cpu": 0.2, "memory": 0.5, "storage": 0.4, "temperature": 50.0, "receive": 1e5, "transmit": 1e4,
    "disk pressure": 0.05, "answer time": 0.2,
}  # fmt: skip


def fleet(nodes: int = 1, **groups: list[int]) -> dict[str, Any]:
    """Return a fleet that does what it always does, give or take a twentieth."""
    random = np.random.default_rng(0)

    def drawn(*shape: int) -> Values:
        level = np.array([USUAL[quantity.name] for quantity in WATCHED])
        return level.reshape(1, -1, *(1 for _ in shape)) * random.uniform(0.95, 1.05, (nodes, len(WATCHED), *shape))

    return {
        "recent": drawn(RECENT),
        "weeks": drawn(len(WEEKS), len(WEEK_POINTS)),
        "days": drawn(len(DAYS), len(DAY_POINTS)),
        "groups": [Group(name, np.array(members)) for name, members in groups.items()],
        "is_open": np.zeros((nodes, len(WATCHED)), bool),
    }


def findings(known: dict[str, Any]) -> list[Finding]:
    return list(judge(Watch(**known)))


def put(known: dict[str, Any], what: str, value: float, node: int = 0) -> None:
    known["recent"][node, PLACE[what]] = value


def test_nothing_is_said_of_a_node_that_does_what_it_always_does() -> None:
    assert findings(fleet(8, farm=list(range(8)))) == []


@pytest.mark.parametrize(
    ("what", "value", "said"),
    [
        ("cpu", 0.93, "cpu 0.93"),
        ("memory", 0.9, "memory 0.90"),
        ("storage", 0.9, "storage 0.90"),
        ("temperature", 75, "temperature 75 °C"),
        ("receive", 0, "receive 1 B/s"),
        ("transmit", 9e6, "transmit 9 MB/s"),
        ("disk pressure", 0.6, "disk pressure 0.60"),
        ("answer time", 3, "answer time 3.00 s"),
    ],
)
def test_what_is_unlike_the_node_itself_is_explained(what: str, value: float, said: str) -> None:
    known = fleet()
    known["weeks"][0, PLACE[what]] = known["days"][0, PLACE[what]] = USUAL[what]
    put(known, what, value)
    (found,) = findings(known)
    assert (found.node, found.what, found.begins) == (0, what, True)
    usual_one = WATCHED[PLACE[what]].show(USUAL[what], 0)
    assert found.message == f"{said}, usually {usual_one} at this hour of the week"


@pytest.mark.parametrize(
    ("what", "low", "high", "said"),
    [
        ("cpu", 0.1, 0.35, "0.10 to 0.35"),
        ("memory", 0.041, 0.044, "0.041 to 0.044"),
        ("memory", 0.0412, 0.0414, "0.0412 to 0.0414"),
        ("memory", 0.04, 0.04, "0.04"),
        ("temperature", 46.1, 46.4, "46.1 °C to 46.4 °C"),
        ("answer time", 0.201, 0.204, "0.201 s to 0.204 s"),
        ("receive", 1_201_000, 1_204_000, "1.201 MB/s to 1.204 MB/s"),
    ],
)
def test_a_range_has_two_ends_that_differ(what: str, low: float, high: float, said: str) -> None:
    assert WATCHED[PLACE[what]].show_range(low, high) == said


@pytest.mark.parametrize("what", ["memory", "storage", "temperature", "answer time"])
def test_less_of_what_only_hurts_in_excess_is_no_anomaly(what: str) -> None:
    known = fleet()
    put(known, what, USUAL[what] / 10)
    assert findings(known) == []


def test_what_does_not_last_and_what_is_missing_is_none() -> None:
    known = fleet()
    put(known, "cpu", 0.95)
    known["recent"][0, PLACE["cpu"], -4] = 0.2
    assert findings(known) == []
    known["recent"][0, PLACE["cpu"], -4] = np.nan
    assert findings(known) == []
    known["recent"][:] = np.nan
    assert findings(known) == []


def test_one_bad_week_among_four_changes_nothing() -> None:
    known = fleet()
    known["weeks"][0, PLACE["cpu"], 1] = 0.95
    put(known, "cpu", 0.95)
    assert [found.what for found in findings(known)] == ["cpu"]


def test_a_node_that_is_busy_at_this_hour_of_each_week_is_not_an_anomaly() -> None:
    known = fleet()
    known["weeks"][0, PLACE["cpu"]] = 0.9
    put(known, "cpu", 0.93)
    assert findings(known) == []


def test_a_node_that_stands_still_when_it_is_always_busy_is_an_anomaly() -> None:
    known = fleet()
    known["weeks"][0, PLACE["cpu"]] = 0.6
    put(known, "cpu", 0.02)
    (found,) = findings(known)
    assert found.message == "cpu 0.02, usually 0.60 at this hour of the week"


def test_days_count_until_there_are_weeks_and_nothing_before_there_are_days() -> None:
    known = fleet()
    put(known, "temperature", 80)
    known["weeks"][:, :, 2:] = np.nan
    (found,) = findings(known)
    assert found.message.endswith(" at this hour")
    known["days"][:, :, 2:] = np.nan
    assert findings(known) == []


def test_what_all_nodes_of_a_group_do_together_is_no_nodes_anomaly() -> None:
    known = fleet(8, farm=list(range(8)))
    known["recent"][:, PLACE["temperature"]] += 20  # a hot day
    assert findings(known) == []
    put(known, "temperature", 95, node=3)
    assert [(found.node, found.what) for found in findings(known)] == [(3, "temperature")]


def test_a_new_node_is_measured_by_its_group() -> None:
    known = fleet(8, farm=list(range(8)))
    known["weeks"][5], known["days"][5] = np.nan, np.nan
    assert findings(known) == []
    put(known, "cpu", 0.9, node=5)
    (found,) = findings(known)
    assert found.node == 5
    assert found.message.startswith("cpu 0.90, other nodes of farm 0.1")


def test_a_group_of_a_few_says_nothing() -> None:
    known = fleet(4, farm=list(range(4)))
    known["weeks"][:], known["days"][:] = np.nan, np.nan
    put(known, "cpu", 0.9, node=1)
    assert findings(known) == []


def test_one_that_goes_on_is_said_once_and_its_end_too() -> None:
    known = fleet()
    put(known, "cpu", 0.95)
    known["is_open"][0, PLACE["cpu"]] = True
    assert findings(known) == []
    put(known, "cpu", 0.2)
    (found,) = findings(known)
    assert (found.begins, found.message) == (False, "cpu 0.20, as usual again")


def test_one_whose_node_is_away_goes_on() -> None:
    known = fleet()
    known["is_open"][0, PLACE["cpu"]] = True
    known["recent"][0, :, -2:] = np.nan
    assert findings(known) == []


def test_a_range_is_of_occasions_and_a_few_points_are_none() -> None:
    history = np.full((1, 4, 10), np.nan)
    history[0, :2] = 1.0
    history[0, 2, :2] = 1.0
    assert np.isnan(usual(history).middle).all()
    history[0, 2, 2] = 1.0
    assert usual(history).middle.tolist() == [1.0]


def _gateway() -> dict[str, Any]:
    """A group one node of which always does more than the others."""
    known = fleet(8, farm=list(range(8)))
    for part in ("recent", "weeks", "days"):
        known[part][0, PLACE["cpu"]] *= 3
    return known


def test_one_of_a_node_that_is_always_unlike_its_group_ends_too() -> None:
    known = _gateway()
    assert findings(known) == []
    known["is_open"][0, PLACE["cpu"]] = True
    (found,) = findings(known)
    assert (found.node, found.what, found.begins) == (0, "cpu", False)
    put(known, "cpu", 0.95)
    assert findings(known) == []


def test_one_whose_group_moves_with_it_ends() -> None:
    known = fleet(8, farm=list(range(8)))
    known["recent"][:, PLACE["temperature"]] += 20
    known["is_open"][3, PLACE["temperature"]] = True
    assert [(found.node, found.begins) for found in findings(known)] == [(3, False)]


def test_one_goes_on_where_nothing_is_known() -> None:
    known = fleet()
    known["weeks"][:], known["days"][:] = np.nan, np.nan
    known["is_open"][0, PLACE["cpu"]] = True
    assert findings(known) == []


def test_the_group_that_is_named_is_the_one_that_decided() -> None:
    known = fleet(14, all=list(range(14)), farm=list(range(8)))
    known["weeks"][:], known["days"][:] = np.nan, np.nan
    known["recent"][8:, PLACE["cpu"]] = 0.01 + 0.001 * np.arange(6)[:, None]
    put(known, "cpu", 0.9, node=5)
    messages = [found.message for found in findings(known) if found.node == 5]
    assert len(messages) == 1
    others = known["recent"][:, PLACE["cpu"], -1]
    assert "other nodes of farm 0.1" in messages[0], others
