"""Approvals of waves in the database, on both."""

from __future__ import annotations

from sqlalchemy import Engine

from evc.store.approvals import Approval, approve_wave, ask_approval, find_approval
from evc.store.rollouts import create_rollout
from tests.store.batches import TS, store_with_nodes
from tests.store.test_rollouts import NEW


def test_what_is_asked_anew_is_not_approved_any_more(engine: Engine) -> None:
    store_with_nodes(engine, 3)
    with engine.begin() as connection:
        rollout, _ = create_rollout(connection, NEW, [(1,), (2, 3)], TS)
        assert find_approval(connection, rollout.id, 1) is None
        ask_approval(connection, rollout.id, 1, ["n1"], TS)
        assert find_approval(connection, rollout.id, 1) == Approval(rollout.id, 1, ["n1"], TS, None, None)
        approve_wave(connection, rollout.id, 1, "Kim", TS + 5)
        assert find_approval(connection, rollout.id, 1) == Approval(rollout.id, 1, ["n1"], TS, TS + 5, "Kim")
        ask_approval(connection, rollout.id, 1, ["n1", "n2"], TS + 9)
        assert find_approval(connection, rollout.id, 1) == Approval(rollout.id, 1, ["n1", "n2"], TS + 9, None, None)
        assert find_approval(connection, rollout.id, 2) is None
