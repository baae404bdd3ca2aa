"""What a person is asked before a wave, and when it is not asked again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Engine

from evc.errors import RolloutFailed
from evc.hooks.approvals import ApprovalHook
from evc.store.rollout_nodes import end_node
from evc.store.rollouts import create_rollout
from tests.store.batches import TS, store_with_nodes
from tests.store.test_rollouts import DIGESTS, NEW


@pytest.fixture
def hook(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> ApprovalHook:
    monkeypatch.setattr("evc.hooks.approvals.checked_engine", lambda: engine)
    return ApprovalHook()


def roll_out(engine: Engine, *waves: int) -> None:
    """Store a roll-out over so many nodes a wave."""
    store_with_nodes(engine, sum(waves))
    ids = iter(range(1, 1 + sum(waves)))
    with engine.begin() as connection:
        create_rollout(connection, NEW, [[next(ids) for _ in range(count)] for count in waves], TS)


def end(engine: Engine, status: str, *node_ids: int) -> None:
    with engine.begin() as connection:
        for node_id in node_ids:
            end_node(connection, 1, node_id, status, TS)


def test_a_question_says_what_how_it_went_and_how_many_are_next(engine: Engine, hook: ApprovalHook) -> None:
    roll_out(engine, 1, 5, 1)
    end(engine, "failed", 1)
    end(engine, "succeeded", 2, 3)
    end(engine, "failed", 4)
    end(engine, "refused", 5)
    end(engine, "pending", 6)
    question = hook.ask("manual__1", 2)
    assert question
    assert question.subject == "Roll-out 1 of reid:1.0: go on with wave 3 of 3, 1 node?"
    assert question.body.splitlines() == [
        f"- image: `reid@{DIGESTS[1]}`",
        "- wave 2 of 3 is done: 2 succeeded, 2 failed, 1 did not answer",
        "- failed: n4, n5",
        "- failed in the waves before: n1",
        "- wave 3 of 3 is next: 1 node: n7",
        "",
        "Why a node failed: `evc rollouts nodes 1`. Reject: the roll-out ends; nodes that have the new image keep it.",
    ]


def test_however_many_there_are_a_question_is_short(engine: Engine, hook: ApprovalHook) -> None:
    roll_out(engine, 500, 500)
    end(engine, "failed", *range(1, 301))
    end(engine, "succeeded", *range(301, 501))
    question = hook.ask("manual__1", 1)
    assert question
    assert question.subject.endswith("go on with wave 2 of 2, 500 nodes?")
    assert "200 succeeded, 300 failed" in question.body
    assert "and 280 more" in question.body
    assert len(question.body) < 1000


def test_what_was_approved_is_asked_again_only_where_a_node_failed_since(engine: Engine, hook: ApprovalHook) -> None:
    roll_out(engine, 3, 1)
    end(engine, "succeeded", 1)
    end(engine, "failed", 2)
    end(engine, "pending", 3)
    first = hook.ask("manual__1", 1)
    assert hook.ask("manual__1", 1) == first  # nobody has said yes
    hook.approve("manual__1", 1, "Kim")
    assert hook.ask("manual__1", 1) is None
    end(engine, "succeeded", 3)
    assert hook.ask("manual__1", 1) is None  # better than before
    end(engine, "failed", 3)
    again = hook.ask("manual__1", 1)
    assert again
    assert again.failed_since == ("n3",)
    second = hook.ask("manual__1", 1)  # until someone says yes to that
    assert second == replace(again, failed_since=())
    hook.approve("manual__1", 1, "Kim")
    assert hook.ask("manual__1", 1) is None


def test_without_a_roll_out_there_is_nothing_to_approve(engine: Engine, hook: ApprovalHook) -> None:
    with pytest.raises(RolloutFailed, match="run manual__9 has no roll-out"):
        hook.ask("manual__9", 1)
