"""That panels say what is so, of a fleet whose state is known."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from sqlalchemy import Engine

from tests.grafana import fleet
from tests.grafana.documents import load, queries
from tests.grafana.macros import Range, Value, expand
from tests.grafana.test_queries import Answer, ask, look, step_ms


def shown(
    engine: Engine, uid: str, title: str, range_: Range = fleet.SHORT, interval_ms: int = 30_000, **chosen: Value
) -> Answer:
    """Return what a panel shows."""
    board = load(uid, engine.dialect.name)
    asked = next(asked for asked in queries(board) if asked.name == title)
    request = look(board, range_, step_ms(asked, interval_ms), **chosen)
    return ask(engine, expand(asked.sql, request, engine.dialect.name))


def test_fleet_counts_nodes_by_state(filled: Engine) -> None:
    counts = shown(filled, "evc-fleet", "Nodes")
    assert dict(zip(counts.columns, counts.rows[0], strict=True)) == {"Up": 2, "Down": 1, "Not seen yet or leaving": 1}


@pytest.mark.parametrize(("group", "up"), [("farm", 2), ("north", 1), (["farm", "north"], 2), ("nowhere", 0)])
def test_a_group_is_its_nodes(filled: Engine, group: Value, up: int) -> None:
    assert shown(filled, "evc-fleet", "Nodes", group=group).rows[0][0] == up


def test_fleet_says_what_is_wrong(filled: Engine) -> None:
    rows = {(row[0], row[1], row[2]) for row in shown(filled, "evc-fleet", "What is wrong now").rows}
    assert rows == {
        ("hill", "error", "does not answer"),
        ("new", "warning", "was never seen"),
        ("cam-2", "warning", "hot: 87 °C"),
        ("cam-2", "warning", "throttled"),
        ("cam-2", "warning", "storage 91 % full"),
        ("cam-2", "warning", "memory 4 % free"),
        ("cam-2", "warning", "probe storage: df: no answer"),
        ("cam-2", "warning", "model smart_farm is drifted: another image runs"),
        ("hill", "warning", "model smart_farm is unreachable: no TCP connection"),
    }


def test_fleet_names_the_top_talkers_first(filled: Engine) -> None:
    talkers = shown(filled, "evc-fleet", "Top talkers")
    assert [row[0] for row in talkers.rows] == ["hill", "cam-2", "cam-1"]
    assert talkers.column("Traffic") == sorted(talkers.column("Traffic"), reverse=True)


def test_fleet_shows_who_did_not_answer(filled: Engine) -> None:
    answer = shown(filled, "evc-fleet", "Who did not answer")
    last = [row[1:] for row in answer.rows if row[0] > fleet.END - 1200 and row[2] is not None]
    assert {node for node, up in last if up == 0} == {"hill"}
    assert {node for node, up in last if up == 1} == {"cam-1", "cam-2"}


def test_the_heat_map_counts_every_node_once(filled: Engine) -> None:
    for row in shown(filled, "evc-fleet", "Heat map", interval_ms=300_000).rows:
        assert sum(value or 0 for value in row[1:]) <= 3
    answer = shown(filled, "evc-fleet", "Heat map")
    assert max(value or 0 for value in answer.column("from 80 °C")) == 1
    assert max(value or 0 for value in answer.column("from 50 °C")) == 2
    # a cell's time is its end
    first = next(row for row in answer.rows if any(row[1:]))
    assert fleet.SHORT.begin < first[0] <= fleet.SHORT.begin + 2 * 300


@pytest.mark.parametrize("count", [1, 2, 3, 14])
def test_percentiles_are_those_of_the_same_values(filled: Engine, count: int) -> None:
    """Two dialects, one meaning: between two values, in proportion."""
    step, length = 299, 20 * count - 1
    begins = range(fleet.END - 7000, fleet.END - 1000, 20)
    begin = next(begin for begin in begins if begin // step == (begin + length) // step)
    range_ = Range(begin, begin + length)
    answer = shown(filled, "evc-inference", "Latency", range_, step * 1000, model="reid", node="cam-1")
    values = [50.0 + ts % 90 for ts in range(begin, begin + 20 * count, 20)]
    row = next(row for row in answer.rows if row[1] is not None)
    assert [float(value) for value in row[1:]] == pytest.approx(list(np.percentile(values, [50, 95, 99])))


def test_latency_per_node_is_that_of_its_frames(filled: Engine) -> None:
    answer = shown(filled, "evc-inference", "Per model, node and digest", model="reid")
    assert [row[:2] for row in answer.rows] == [("reid", "cam-1"), ("reid", "cam-2")]
    values = [50.0 + ts % 90 for ts in range(fleet.END - 7000, fleet.END, 20)]
    assert [float(row[5]) for row in answer.rows] == pytest.approx([float(np.percentile(values, 50))] * 2)


def test_throughput_is_frames_by_seconds(filled: Engine) -> None:
    answer = shown(filled, "evc-inference", "Throughput", interval_ms=600_000, model="reid")
    full = [row for row in answer.rows if fleet.END - 6000 < row[0] < fleet.END - 1200]
    assert {row[1] for row in full} == {"reid on cam-1", "reid on cam-2"}
    assert [float(row[2]) for row in full] == pytest.approx([1 / 20] * len(full))


def test_errors_are_counted(filled: Engine) -> None:
    answer = shown(filled, "evc-inference", "Errors")
    assert sum(row[2] or 0 for row in answer.rows) == 1


def test_a_digest_leaves_the_others_out(filled: Engine) -> None:
    assert shown(filled, "evc-inference", "Throughput", digest=fleet.DIGESTS[0]).rows == []


def test_models_show_drift(filled: Engine) -> None:
    assert shown(filled, "evc-models", "On nodes").rows == [(1, 1, 0, 1)]
    drift = shown(filled, "evc-models", "Drift")
    assert [row[:5] for row in drift.rows] == [
        ("cam-2", "smart_farm", "drifted", "b" * 12, "a" * 12),
        ("hill", "smart_farm", "unreachable", "b" * 12, None),
    ]
    where = shown(filled, "evc-models", "What runs where")
    assert where.column("Built from")[1] == "1.0, " + "c" * 12, "what runs on cam-2 is the older image"


def test_a_rollout_is_shown_by_wave(filled: Engine) -> None:
    waves = shown(filled, "evc-rollouts", "Waves")
    rows = [dict(zip(waves.columns, row, strict=True)) for row in waves.rows]
    assert [(row["Wave"], row["Nodes"], row["Succeeded"], row["At work"], row["Away"]) for row in rows] == [
        (1, 1, 1, 0, 0),
        (2, 2, 0, 1, 1),
    ]
    assert [float(row["Done"]) for row in rows] == [1.0, 0.0]
    assert shown(filled, "evc-rollouts", "Waves", rollout="1").column("Failed") == [0, 1]


def test_a_rollout_is_shown_by_node_with_its_rate(filled: Engine) -> None:
    nodes = shown(filled, "evc-rollouts", "By node")
    assert [(row[0], row[2]) for row in nodes.rows] == [
        ("cam-1", "succeeded"),
        ("cam-2", "pulling"),
        ("hill", "pending"),
    ]
    assert [None if value is None else float(value) for value in nodes.column("Pulled")] == [
        1.0,
        pytest.approx(1 / 3),
        None,
    ]
    assert shown(filled, "evc-rollouts", "Rates").rows == [("cam-2", 1_500_000.0)]


def test_system_counts_missed_ticks_and_ages(filled: Engine) -> None:
    ticks = ask(filled, "SELECT ts, missed_ticks FROM sweeps").rows
    missed = shown(filled, "evc-system", "Missed ticks, by step", interval_ms=600_000).column("Missed ticks")
    assert sum(value or 0 for value in missed) == sum(missed for _, missed in ticks) > 0
    age = shown(filled, "evc-system", "Age of data").rows[0][0]
    assert age == fleet.END - max(ts for ts, _ in ticks)
    tables = Counter(shown(filled, "evc-system", "Tables").column("Table"))
    assert set(tables.values()) == {1}


def test_ways_lead_from_node_to_node(filled: Engine) -> None:
    ways = shown(filled, "evc-reid", "Ways")
    assert [(row[0], row[1], row[2], row[4]) for row in ways.rows] == [
        ("cam-1", "cam-2", 1, 400),
        ("cam-2", "cam-1", 1, 5300),
    ]
    numbers = shown(filled, "evc-reid", "At a glance")
    assert dict(zip(numbers.columns, map(int, numbers.rows[0]), strict=True)) == {
        "Identities": 2, "Visits": 4, "Sightings": 80, "New": 2, "Nodes": 2, "Ways": 2
    }  # fmt: skip


@pytest.mark.parametrize(
    "range_", [fleet.SHORT, Range(fleet.END - 4000, fleet.END - 2000), Range(fleet.END - 1000, fleet.END)]
)
def test_lines_on_the_map_have_both_ends_among_the_points(filled: Engine, range_: Range) -> None:
    """Grafana's layer fails where one is missing, and where there are points and no line (networkLayer.tsx)."""
    board = load("evc-reid", filled.dialect.name)
    request = look(board, range_, 30_000)
    asked = [asked for asked in queries(board) if asked.name == "Ways between nodes"]
    points, edges = (ask(filled, expand(each.sql, request, filled.dialect.name)) for each in asked)
    assert points.rows
    assert edges.rows
    assert {*edges.column("source"), *edges.column("target")} <= set(points.column("id"))


def test_the_way_of_somebody_is_in_order(filled: Engine) -> None:
    assert shown(filled, "evc-reid", "Way of the identity").column("Node") == ["cam-1", "cam-2", "cam-1"]
    assert shown(filled, "evc-reid", "Way of the identity", identity="2").column("Node") == ["cam-2"]
    assert shown(filled, "evc-reid", "$identity").column(
        "CAST(v.id AS text)" if filled.dialect.name == "sqlite" else "id"
    ) == ["1", "2"]


def test_the_newest_picture_of_a_field(filled: Engine) -> None:
    (row,) = shown(filled, "evc-smart-farm", "Newest pictures").rows
    assert row[:2] == ("cam-1", "green")
    assert [float(value) for value in row[4:7]] == pytest.approx([0.85, 0.1, 0.05])


def test_what_happened_on_a_field(filled: Engine) -> None:
    events = shown(filled, "evc-smart-farm", "Events")
    assert [row[1:] for row in events.rows] == [
        ("cam-1", "health", "discoloured: 30 %"),
        ("cam-1", "change", "cover fell by 25 %"),
    ]
    assert shown(filled, "evc-smart-farm", "Discoloured or changed").column("text") == [
        "cam-1: cover fell by 25 %",
        "cam-1: discoloured: 30 %",
    ]


def test_the_chosen_index_is_charted(filled: Engine) -> None:
    values = [
        row[2] for row in shown(filled, "evc-smart-farm", "Vegetation index", index="gli").rows if row[2] is not None
    ]
    assert 0.2 <= min(values) <= max(values) <= 0.4
