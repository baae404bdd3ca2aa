"""A gate that asks: what it shows, and what it remembers of the answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from airflow.sdk import Context
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    TaskAwaitingInput,
)
from sqlalchemy import Engine

from evc.operators.judge_wave import JudgeWaveOperator
from evc.store.rollout_nodes import end_node
from evc.store.rollouts import PAUSE, create_rollout, find_rollout, set_command
from tests.store.batches import TS, store_with_nodes
from tests.store.test_rollouts import NEW


class Gate:
    """The first gate of a roll-out over two waves, whose first went well."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.asked: list[dict[str, Any]] = []
        store_with_nodes(engine, 4)
        with engine.begin() as connection:
            # of a wave that failures don't end
            new = replace(NEW, success_threshold=30.0, error_threshold=90.0)
            create_rollout(connection, new, [(1, 2), (3, 4)], TS)
        self.end(1, "succeeded")
        self.end(2, "pending")

    def end(self, node_id: int, status: str) -> None:
        with self.engine.begin() as connection:
            end_node(connection, 1, node_id, status, TS)

    def command(self, given: str | None) -> None:
        with self.engine.begin() as connection:
            assert set_command(connection, 1, given)

    def context(self, *, approval: bool = True) -> Context:
        params = {"approval": approval}
        given = {
            "dag": SimpleNamespace(dag_id="deploy_model", params=params, task_dict={}),
            "task": SimpleNamespace(params=params),
            "dag_run": SimpleNamespace(run_id=NEW.run_id, conf={}),
            "params": params,
            "task_instance": SimpleNamespace(id="1"),
        }
        return cast("Context", given)

    def run(self, *, approval: bool = True) -> list[str] | None:
        """Do one turn of the task."""
        return JudgeWaveOperator(task_id="gate", wave=0).execute(self.context(approval=approval))

    def answer(self, option: str) -> list[str] | None:
        """Do the turn of the task that comes after an answer."""
        event = {
            "chosen_options": [option],
            "params_input": {},
            "responded_at": datetime.now(UTC),
            "responded_by_user": {"id": "1", "name": "Kim"},
        }
        return JudgeWaveOperator(task_id="gate", wave=0).execute_complete(self.context(), event)


@pytest.fixture
def gate(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Gate:
    for module in ("approvals", "rollouts"):
        monkeypatch.setattr(f"evc.hooks.{module}.checked_engine", lambda: engine)
    made = Gate(engine)
    monkeypatch.setattr(
        "airflow.providers.standard.operators.hitl.upsert_hitl_detail", lambda **given: made.asked.append(given)
    )
    return made


def test_without_approval_nobody_is_asked(gate: Gate) -> None:
    assert gate.run(approval=False) == ["n3", "n4"]
    assert gate.asked == []


def test_the_question_says_how_it_went_and_what_is_next(gate: Gate) -> None:
    with pytest.raises(TaskAwaitingInput):
        gate.run()
    (asked,) = gate.asked
    assert asked["subject"] == "Roll-out 1 of reid:1.0: go on with wave 2 of 2, 2 nodes?"
    assert "wave 1 of 2 is done: 1 succeeded, 0 failed, 1 did not answer" in asked["body"]
    assert gate.answer("Approve") == ["n3", "n4"]


def test_after_a_pause_what_was_approved_is_not_asked_again(gate: Gate) -> None:
    with pytest.raises(TaskAwaitingInput):
        gate.run()
    gate.command(PAUSE)
    with pytest.raises(AirflowRescheduleException):
        gate.answer("Approve")
    with pytest.raises(AirflowRescheduleException):
        gate.run()
    gate.command(None)
    assert gate.run() == ["n3", "n4"]
    assert len(gate.asked) == 1


def test_where_a_node_failed_since_the_next_try_asks_anew(gate: Gate) -> None:
    with pytest.raises(TaskAwaitingInput):
        gate.run()
    gate.command(PAUSE)
    with pytest.raises(AirflowRescheduleException):
        gate.answer("Approve")
    gate.end(2, "failed")
    gate.command(None)
    with pytest.raises(
        AirflowException, match="^failed since wave 2 was approved: n2; the next try asks anew$"
    ) as told:
        gate.run()
    assert not isinstance(told.value, AirflowFailException)  # there is a next try
    with pytest.raises(TaskAwaitingInput):
        gate.run()
    assert "- failed: n2" in gate.asked[1]["body"]
    assert gate.answer("Approve") == ["n3", "n4"]


def test_a_rejection_ends_the_roll_out(gate: Gate) -> None:
    with pytest.raises(TaskAwaitingInput):
        gate.run()
    with pytest.raises(AirflowFailException, match="wave 2 was not approved by Kim"):
        gate.answer("Reject")
    with gate.engine.connect() as connection:
        rollout = find_rollout(connection, rollout_id=1)
    assert rollout
    assert rollout.status == "aborted"
