"""Runs of scenarios: what they take, and how they end."""

from __future__ import annotations

import logging

import pytest
from sqlalchemy import Engine, insert, select

from evc.errors import InputError, ScenarioFailed
from evc.hooks.inference import InferenceHook, Wanted
from evc.hooks.scenarios import Begun, Ending, ScenarioHook, content_of, inference_key, still_registered
from evc.store.scenarios import find_scenario_run
from evc.store.tables import assignments, inference_results, inference_runs, node_events, nodes
from tests.store.batches import TS, store_with_nodes

KEY = "scenario_farm manual__1"
DIGEST = f"sha256:{'a' * 64}"
CONTENT = """\
description: Looks at pictures
model: {name: farm}
inference: {}
events:
  - {kind: cover, statistic: count, below: 1}
"""


@pytest.fixture
def hook(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> ScenarioHook:
    for module in ("scenarios", "inference"):
        monkeypatch.setattr(f"evc.hooks.{module}.checked_engine", lambda: engine)
    store_with_nodes(engine, 2)
    for model in ("farm", "other"):
        deploy(engine, model, 1, 2)
    return ScenarioHook(logging.getLogger())


def deploy(engine: Engine, model: str, *node_ids: int) -> None:
    row = {"model": model, "repository": model, "digest": DIGEST, "spec": {}, "ts": TS, "status": "running"}
    with engine.begin() as connection:
        connection.execute(insert(assignments), [{**row, "node_id": node_id} for node_id in node_ids])


def ran(engine: Engine, node_id: int, model: str, status: str = "succeeded", key: str = KEY) -> None:
    """Store what the model said on a node."""
    row = {"run_id": inference_key(key), "node_id": node_id, "model": model, "digest": DIGEST, "started_ts": TS}
    with engine.begin() as connection:
        made = connection.execute(insert(inference_runs).values({**row, "mode": "once", "status": status, "lines": 1}))
        (run_id,) = made.inserted_primary_key or (0,)
        line = {"run_id": run_id, "seq": 0, "ts": TS, "node_id": node_id, "model": model, "digest": DIGEST}
        connection.execute(insert(inference_results).values({**line, "kind": "cover", "value": 0.5}))


def test_a_run_that_was_given_another_model_is_judged_by_what_that_said(engine: Engine, hook: ScenarioHook) -> None:
    assert hook.begin("farm.yaml", CONTENT, Begun(KEY, "other", (), ())) == ["n1", "n2"]
    ran(engine, 1, "other")
    ran(engine, 2, "other")
    assert hook.finish(Ending(KEY, None, TS)) == {"good": 2, "failed": 0, "events": 0}
    with engine.connect() as connection:
        run = find_scenario_run(connection, KEY)
        assert run
        assert (run.model, run.status) == ("other", "succeeded")
        assert connection.execute(select(node_events)).all() == []


def test_scenarios_that_are_due_at_the_same_time_each_raise_their_event_once(
    engine: Engine, hook: ScenarioHook
) -> None:
    keys = [KEY, KEY.replace("farm", "yard")]
    content = CONTENT.replace("below: 1", "above: 0")
    for key in keys:
        hook.begin("farm.yaml", content, Begun(key, "farm", ("n1",), ()))
        ran(engine, 1, "farm", key=key)
    for key in (*keys, *keys):  # each once more: its finish was killed at its very end
        assert hook.finish(Ending(key, None, TS))["events"] == 1
    with engine.connect() as connection:
        assert connection.execute(select(node_events.c.ts).order_by("ts")).scalars().all() == [TS, TS + 1]


def test_where_the_model_did_not_run_there_is_no_event_of_what_it_did_not_say(
    engine: Engine, hook: ScenarioHook
) -> None:
    hook.begin("farm.yaml", CONTENT, Begun(KEY, "farm", (), ()))
    ran(engine, 2, "farm", status="failed")
    with pytest.raises(ScenarioFailed, match="0 of 2 nodes got through, 0 events"):
        hook.finish(Ending(KEY, None, TS))


def test_a_node_that_was_removed_meanwhile_is_not_the_end_for_the_others(engine: Engine, hook: ScenarioHook) -> None:
    with engine.begin() as connection:
        connection.execute(nodes.update().where(nodes.c.name == "n2").values(removed_ts=TS))
    assert still_registered(["n1", "n2"], hook.log) == ["n1"]
    with pytest.raises(InputError, match="none of the run's is registered any more"):  # nothing would mean all
        still_registered(["n2"], hook.log)


def test_where_all_nodes_got_through_but_a_task_did_not_there_is_nothing_to_do_again(
    engine: Engine, hook: ScenarioHook
) -> None:
    hook.begin("farm.yaml", CONTENT, Begun(KEY, "farm", (), ()))
    ran(engine, 1, "farm")
    ran(engine, 2, "farm")
    with pytest.raises(ScenarioFailed, match=r"2 of 2 nodes got through, 0 events; did not succeed: rollout.plan$"):
        hook.finish(Ending(KEY, None, TS, ("rollout.plan",)))
    with pytest.raises(InputError, match="every node got through"):
        hook.begin("farm.yaml", CONTENT, Begun("scenario_farm manual__2", "farm", (), (), "manual__1"))


@pytest.mark.parametrize(
    ("more", "names", "taken"),
    [
        ("", (), ["n1"]),
        ("", ("n2",), ["n2"]),  # said is said: that the model is not there is told by what needs it
        ("collect: true\n", (), ["n1"]),
        ("build: {builder: n1}\n", (), ["n1", "n2"]),
        ("build: {builder: n1}\nrollout: {}\n", (), ["n1", "n2"]),
    ],
)
def test_where_no_node_is_named_a_model_that_is_only_run_runs_where_it_is_deployed(
    engine: Engine, hook: ScenarioHook, more: str, names: tuple[str, ...], taken: list[str]
) -> None:
    deploy(engine, "lawn", 1)
    assert hook.begin("farm.yaml", CONTENT + more, Begun(KEY, "lawn", names, ())) == taken


def test_a_model_that_is_deployed_nowhere_is_said_to_be(engine: Engine, hook: ScenarioHook) -> None:
    with pytest.raises(InputError) as caught:
        hook.begin("farm.yaml", CONTENT, Begun(KEY, "lawn", (), ()))
    with pytest.raises(InputError) as by_hand:  # the same rule, the same words
        InferenceHook(hook.log)._select(Wanted("lawn"), {})
    assert str(caught.value) == str(by_hand.value)
    deploy(engine, "lawn", 1)
    with pytest.raises(InputError, match=r'"lawn" is deployed on no node that bears {"site": "north"}; allowed: dep'):
        hook.begin("farm.yaml", CONTENT + "nodes: {labels: {site: north}}\n", Begun(KEY, "lawn", (), ()))
    with engine.begin() as connection:
        assert find_scenario_run(connection, KEY) is None
        connection.execute(nodes.update().where(nodes.c.name == "n1").values(labels={"site": "north"}))
    content = CONTENT + "nodes: {labels: {site: north}}\n"
    assert hook.begin("farm.yaml", content, Begun(KEY, "farm", (), ())) == ["n1"]


def test_a_run_ends_by_the_file_with_which_it_began(engine: Engine, hook: ScenarioHook) -> None:
    hook.begin("farm.yaml", CONTENT.replace("below: 1", "above: 0"), Begun(KEY, "farm", ("n1",), ()))
    ran(engine, 1, "farm")
    assert content_of(KEY) == CONTENT.replace("below: 1", "above: 0")
    assert content_of("scenario_farm manual__2") is None
    assert hook.finish(Ending(KEY, None, TS))["events"] == 1


def test_again_takes_those_that_did_not_get_through_and_are_still_registered(
    engine: Engine, hook: ScenarioHook
) -> None:
    hook.begin("farm.yaml", CONTENT, Begun(KEY, "farm", (), ()))
    ran(engine, 1, "farm", "failed")
    with pytest.raises(ScenarioFailed, match=r'0 of 2 nodes got through, 0 events; .*conf {"again": "manual__1"}$'):
        hook.finish(Ending(KEY, None, TS))
    with engine.begin() as connection:
        connection.execute(nodes.update().where(nodes.c.name == "n2").values(removed_ts=TS))
    again = Begun("scenario_farm manual__2", "farm", (), (), "manual__1")
    assert hook.begin("farm.yaml", CONTENT, again) == ["n1"]
    other = Begun("scenario_other manual__2", "farm", (), (), "manual__1")
    with pytest.raises(InputError, match="no earlier run of scenario_other"):
        hook.begin("other.yaml", CONTENT, other)


@pytest.mark.parametrize("status", [None, "running", "unreachable", "failed"])
def test_again_takes_a_run_that_was_ended_before_its_finish_by_what_is_known_of_its_nodes(
    engine: Engine, hook: ScenarioHook, status: str | None
) -> None:
    hook.begin("farm.yaml", CONTENT, Begun(KEY, "farm", (), ()))
    ran(engine, 1, "farm")
    if status:
        ran(engine, 2, "farm", status)
    for number in (2, 3):  # the second time the row of the run is closed already
        again = Begun(f"scenario_farm manual__{number}", "farm", (), (), "manual__1")
        assert hook.begin("farm.yaml", CONTENT, again) == ["n2"]
        with engine.connect() as connection:
            before, now = (find_scenario_run(connection, key) for key in (KEY, again.key))
        assert before
        assert now
        assert (before.status, before.message) == ("failed", "its run was ended before its finish")
        assert (now.status, now.finished_ts) == ("running", None)
    itself = Begun("scenario_farm manual__4", "farm", (), (), "manual__4")
    with pytest.raises(InputError, match='"manual__4" is no earlier run of scenario_farm; allowed: the id of a run'):
        hook.begin("farm.yaml", CONTENT, itself)


def test_where_no_step_tells_of_a_node_again_takes_all_of_a_run_that_did_not_succeed(
    engine: Engine, hook: ScenarioHook
) -> None:
    content = "description: Looks\nmodel: {name: farm}\ncollect: true\n"
    hook.begin("farm.yaml", content, Begun(KEY, "farm", ("n1",), ()))
    again = Begun("scenario_farm manual__2", "farm", (), (), "manual__1")
    assert hook.begin("farm.yaml", content, again) == ["n1"]
    assert hook.finish(Ending(again.key, None, TS))["good"] == 1
    with pytest.raises(InputError, match="every node got through"):
        hook.begin("farm.yaml", content, Begun("scenario_farm manual__3", "farm", (), (), "manual__2"))
