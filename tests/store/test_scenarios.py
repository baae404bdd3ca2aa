"""Runs of scenarios in the database, on both."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Engine, insert

from evc.fleet.thresholds import Summary
from evc.store.rollout_nodes import begin_node, end_node
from evc.store.rollouts import create_rollout
from evc.store.scenarios import (
    begin_scenario,
    end_scenario,
    find_scenario_run,
    is_good,
    node_outcomes,
    result_kinds,
    result_summaries,
)
from evc.store.tables import inference_results, inference_runs
from tests.store.batches import TS, store_with_nodes
from tests.store.test_rollouts import NEW

KEY = "scenario_farm manual__1"
GIVEN = {"run_id": KEY, "scenario": "farm", "content": "text", "model": "farm", "nodes": ["n1", "n2"]}
DIGEST = "sha256:" + "a" * 64


def add_run(engine: Engine, node_id: int, status: str, values: list[float | None], **more: Any) -> None:
    """Add a run of inference on a node, with a line of kind ``cover`` for each of ``values``, a minute apart."""
    row = {"run_id": "key", "node_id": node_id, "model": "farm", "digest": DIGEST, "mode": "once", "status": status}
    with engine.begin() as connection:
        made = connection.execute(insert(inference_runs).values({**row, "started_ts": TS, "lines": 0, **more}))
        (run_id,) = made.inserted_primary_key or (0,)
        for seq, value in enumerate(values):
            line = {"run_id": run_id, "seq": seq, "ts": TS + 60 * seq, "node_id": node_id, "model": "farm"}
            connection.execute(
                insert(inference_results).values(
                    {**line, "digest": DIGEST, "kind": "cover", "label": "a", "value": value}
                )
            )


def test_a_run_is_begun_once_and_closed_anew(engine: Engine) -> None:
    with engine.begin() as connection:
        begun = begin_scenario(connection, GIVEN, TS)
        again = begin_scenario(connection, {**GIVEN, "nodes": ["n3"], "content": "other"}, TS + 9)
        assert begun == again
        assert (begun.nodes, begun.status, begun.finished_ts) == (["n1", "n2"], "running", None)
        end_scenario(connection, KEY, "failed", "1 of 2", None, TS + 10)
        end_scenario(connection, KEY, "succeeded", "2 of 2", DIGEST, TS + 20)
        found = find_scenario_run(connection, KEY)
        assert found
        assert (found.status, found.message, found.digest, found.finished_ts) == (
            "succeeded",
            "2 of 2",
            DIGEST,
            TS + 20,
        )
        assert find_scenario_run(connection, "scenario_farm other") is None


def test_what_became_of_each_node(engine: Engine) -> None:
    store_with_nodes(engine, 2)
    add_run(engine, 1, "succeeded", [])
    add_run(engine, 2, "failed", [])
    with engine.connect() as connection:
        found = node_outcomes(connection, KEY, "key")
    assert found == {"n1": {"inference": "succeeded"}, "n2": {"inference": "failed"}}
    assert is_good(found["n1"], ["inference"])
    assert not is_good(found["n1"], ["rollout", "inference"])
    assert not is_good(found["n2"], ["inference"])
    assert is_good({}, [])


def test_a_roll_out_that_nobody_closed_tells_which_nodes_it_reached(engine: Engine) -> None:
    store_with_nodes(engine, 3)
    with engine.begin() as connection:
        rollout, _ = create_rollout(connection, replace(NEW, run_id=KEY), [(1,), (2, 3)], TS)
        for node_id in (1, 2):
            begin_node(connection, rollout.id, node_id, TS)
        end_node(connection, rollout.id, 1, "succeeded", TS)
        found = node_outcomes(connection, KEY, "key")
    assert {name: outcome["rollout"] for name, outcome in found.items()} == {
        "n1": "succeeded",
        "n2": "preflight",
        "n3": "waiting",
    }
    assert [is_good(found[name], ["rollout"]) for name in ("n1", "n2", "n3")] == [True, False, False]


def test_what_was_stopped_is_good_where_it_has_said_something(engine: Engine) -> None:
    store_with_nodes(engine, 2)
    add_run(engine, 1, "timeout", [0.5], lines=1)
    add_run(engine, 2, "timeout", [])
    with engine.connect() as connection:
        found = node_outcomes(connection, KEY, "key")
    assert found == {"n1": {"inference": "timeout"}, "n2": {"inference": "timeout without a line"}}
    assert [is_good(found[name], ["inference"]) for name in ("n1", "n2")] == [True, False]


def test_what_the_lines_of_a_kind_say(engine: Engine) -> None:
    store_with_nodes(engine, 3)
    add_run(engine, 1, "succeeded", [0.5, 0.1, 0.3, None])
    add_run(engine, 2, "succeeded", [None])
    add_run(engine, 3, "succeeded", [1.0], run_id="other")
    with engine.connect() as connection:
        assert result_kinds(connection, "key") == ["cover"]
        found = result_summaries(connection, "farm", "cover", run_id="key")
        assert (sorted(found), found[2]) == ([1, 2], Summary(1))
        summary = found[1]
        assert summary.mean is not None
        assert abs(summary.mean - 0.3) < 1e-9
        assert (summary.count, summary.min, summary.max, summary.last) == (4, 0.1, 0.5, 0.3)
        window = result_summaries(connection, "farm", "cover", between=(TS, TS + 120), node_ids=[1, 3])
        assert (window[1].count, window[1].last, window[3].count) == (2, 0.1, 1)
        assert result_summaries(connection, "farm", "cover", label="b") == {}
        assert result_summaries(connection, "other", "cover") == {}
