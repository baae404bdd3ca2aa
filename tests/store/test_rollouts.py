"""Roll-outs, their nodes and the assignments that they make, on both databases."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, text

from evc.fleet.deadlines import FOREVER_TS
from evc.fleet.waves import STATUSES, WORKING, Step, Thresholds, judge
from evc.store import assignments, rollouts
from evc.store.assignments import (
    assign,
    claim_repair,
    find_assignment,
    give_back,
    is_being_repaired,
    is_contested,
    is_due,
    list_assignments,
    pending_returns,
    record_found,
    renew_repair,
)
from evc.store.database import open_engine
from evc.store.nodes import remove_node
from evc.store.rollout_nodes import (
    begin_node,
    end_node,
    find_rollout_node,
    list_rollout_nodes,
    node_history,
    previous_digest,
    report_node,
    settle_pending,
)
from evc.store.rollouts import (
    NewRollout,
    Rollout,
    abort_rollout,
    begin_rollback,
    create_rollout,
    expire_pending,
    fail_unfinished,
    find_rollout,
    finish_rollout,
    rollout_rows,
    set_command,
    unfinished_rollout,
    unfinished_rollouts,
)
from tests.store.batches import TS, store_with_nodes

DIGESTS = [f"sha256:{number:064x}" for number in range(4)]
NEW = NewRollout(
    run_id="manual__1",
    model="reid",
    repository="reid",
    digest=DIGESTS[1],
    tag="1.0",
    spec={"name": "reid", "version": "1.0"},
    layers={"arm64": [["sha256:1", 10, None]]},
    waves=[1, "100%"],
    success_threshold=90.0,
    error_threshold=10.0,
    deadline_ts=TS + 3600,
)


def start(engine: Engine, new: NewRollout = NEW, waves: Any = ((1,), (2, 3))) -> Rollout:
    with engine.begin() as connection:
        made, is_own = create_rollout(connection, new, waves, TS)
    assert is_own
    return made


def succeed(engine: Engine, rollout: Rollout, node_id: int) -> None:
    with engine.begin() as connection:
        assert begin_node(connection, rollout.id, node_id, TS)
        end_node(connection, rollout.id, node_id, "succeeded", TS + 5, container_id="c1")
        assign(connection, node_id, rollout.id, TS + 5, status="running", container_id="c1")


def wait_for(engine: Engine, rollout: Rollout, node_id: int) -> None:
    with engine.begin() as connection:
        assert begin_node(connection, rollout.id, node_id, TS)
        end_node(connection, rollout.id, node_id, "pending", TS + 5, message="no answer")
        assign(connection, node_id, rollout.id, TS + 5, status="pending")


def statuses(engine: Engine, rollout: Rollout) -> list[str]:
    with engine.connect() as connection:
        return [node.status for node in list_rollout_nodes(connection, rollout.id)]


def desired(engine: Engine, node_id: int) -> tuple[str, str] | None:
    with engine.connect() as connection:
        found = find_assignment(connection, node_id, "reid")
    return (found.digest, found.status) if found else None


@pytest.fixture
def fleet(engine: Engine) -> Engine:
    store_with_nodes(engine, 3)
    return engine


# -- creation and lock -----------------------------------------------------------------------------------------------


def test_a_roll_out_comes_back_as_it_was_stored(fleet: Engine) -> None:
    made = start(fleet)
    assert made == Rollout(
        **{name: getattr(NEW, name) for name in NewRollout.__dataclass_fields__},
        id=made.id, status="running", command=None, created_ts=TS, finished_ts=None, message=None,
    )  # fmt: skip
    with fleet.connect() as connection:
        assert find_rollout(connection, rollout_id=made.id) == find_rollout(connection, run_id="manual__1") == made
        assert unfinished_rollout(connection, "reid") == made
        assert unfinished_rollouts(connection) == [made]
        assert unfinished_rollout(connection, "farm") is None
        nodes = list_rollout_nodes(connection, made.id)
        assert [(node.name, node.wave, node.status) for node in nodes] == [
            ("n1", 0, "waiting"),
            ("n2", 1, "waiting"),
            ("n3", 1, "waiting"),
        ]
        assert [node.name for node in list_rollout_nodes(connection, made.id, wave=1)] == ["n2", "n3"]


def test_a_second_try_of_the_same_run_finds_what_the_first_one_made(fleet: Engine) -> None:
    made = start(fleet)
    succeed(fleet, made, 1)
    again = start(fleet, replace(NEW, digest=DIGESTS[2]), [(3,)])
    assert again == made
    assert statuses(fleet, made) == ["succeeded", "waiting", "waiting"]


def test_two_roll_outs_of_a_model_do_not_interleave(fleet: Engine) -> None:
    made = start(fleet)
    with fleet.begin() as connection:
        assert create_rollout(connection, replace(NEW, run_id="manual__2"), [(1,)], TS) == (made, False)
        other, is_own = create_rollout(connection, replace(NEW, run_id="manual__3", model="farm"), [(1,)], TS)
        assert is_own
        assert finish_rollout(connection, made.id, "failed", "over", TS)
        second, is_own = create_rollout(connection, replace(NEW, run_id="manual__2"), [(1,)], TS)
        assert is_own
        assert [rollout.id for rollout in unfinished_rollouts(connection)] == [other.id, second.id]


def _create_at(url: str, run_id: str) -> tuple[int, bool]:
    engine = open_engine(url)
    with engine.begin() as connection:
        rollout, is_own = create_rollout(connection, replace(NEW, run_id=run_id), [(1, 2, 3)], TS)
    engine.dispose()
    return rollout.id, is_own


def test_of_several_at_once_one_gets_the_lock(fleet: Engine, processes: Executor) -> None:
    url = fleet.url.render_as_string(hide_password=False)
    found = [task.result() for task in [processes.submit(_create_at, url, f"manual__{n}") for n in range(3)]]
    assert sorted(is_own for _, is_own in found) == [False, False, True]
    assert len({rollout_id for rollout_id, _ in found}) == 1
    with fleet.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM rollout_nodes")).scalar() == 3


def test_of_several_tries_of_one_run_at_once_all_get_the_same(fleet: Engine, processes: Executor) -> None:
    url = fleet.url.render_as_string(hide_password=False)
    found = {task.result() for task in [processes.submit(_create_at, url, "manual__1") for _ in range(3)]}
    assert len(found) == 1
    with fleet.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM rollout_nodes")).scalar() == 3


# -- nodes -----------------------------------------------------------------------------------------------------------


def test_the_way_of_a_node(fleet: Engine) -> None:
    made = start(fleet)
    with fleet.begin() as connection:
        assert begin_node(connection, made.id, 1, TS)
        assert report_node(connection, made.id, 1, "pulling", bytes_done=5, bytes_total=10, rate_bytes_per_s=2.5)
        assert report_node(connection, made.id, 1, "gate", message="x" * 5000)
        row = connection.execute(text("SELECT * FROM rollout_nodes WHERE node_id = 1")).mappings().one()
        assert (row["bytes_done"], row["bytes_total"], row["rate_bytes_per_s"]) == (5, 10, 2.5)
        assert len(row["message"]) == 2000
        end_node(connection, made.id, 1, "succeeded", TS + 9, container_id="c1")
        # what an older try still says comes too late, and nothing begins anew what is done
        assert not report_node(connection, made.id, 1, "pulling", bytes_done=1)
        assert not begin_node(connection, made.id, 1, TS + 10)
        found = find_rollout_node(connection, made.id, "n1")
        assert found
        assert (found.status, found.container_id, found.started_ts) == ("succeeded", "c1", TS)
        assert find_rollout_node(connection, made.id, "ghost") is None
        assert [row["status"] for row in node_history(connection, 1)] == ["succeeded"]
        with pytest.raises(ValueError, match="is no end"):
            end_node(connection, made.id, 1, "pulling", TS)


@pytest.mark.parametrize("status", sorted(STATUSES - WORKING))
def test_a_node_that_failed_or_waits_may_begin_anew(fleet: Engine, status: str) -> None:
    made = start(fleet)
    with fleet.begin() as connection:
        end_node(connection, made.id, 1, status, TS)
        assert begin_node(connection, made.id, 1, TS) == (status in {"waiting", "pending", "failed", "refused"})


def test_no_node_begins_while_the_roll_out_pauses_or_after_its_end(fleet: Engine) -> None:
    made = start(fleet)
    with fleet.begin() as connection:
        assert set_command(connection, made.id, rollouts.PAUSE)
        assert not begin_node(connection, made.id, 1, TS)
        assert set_command(connection, made.id, None)
        assert begin_node(connection, made.id, 1, TS)
        assert finish_rollout(connection, made.id, "failed", "over", TS)
        assert not begin_node(connection, made.id, 2, TS)
        assert not set_command(connection, made.id, rollouts.PAUSE)


# -- ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "left"),
    [
        ("succeeded", ["succeeded", "pending", "failed", "aborted"]),
        ("failed", ["succeeded", "aborted", "failed", "aborted"]),
        ("aborted", ["succeeded", "aborted", "failed", "aborted"]),
    ],
)
def test_the_end_of_a_roll_out_leaves_no_node_open(engine: Engine, end: str, left: list[str]) -> None:
    store_with_nodes(engine, 4)
    made = start(engine, waves=[(1, 2, 3, 4)])
    succeed(engine, made, 1)
    wait_for(engine, made, 2)
    with engine.begin() as connection:
        begin_node(connection, made.id, 3, TS)
        assert finish_rollout(connection, made.id, end, "why", TS + 9)
        assert not finish_rollout(connection, made.id, "failed", "again", TS + 10)
        found = find_rollout(connection, rollout_id=made.id)
    assert found
    assert (found.status, found.message, found.finished_ts, found.is_finished) == (end, "why", TS + 9, True)
    assert statuses(engine, made) == left
    assert desired(engine, 1) == (DIGESTS[1], "running")
    assert desired(engine, 2) == ((DIGESTS[1], "pending") if end == "succeeded" else None)


def test_an_abort_ends_what_waits_and_lets_work_be_done(fleet: Engine) -> None:
    made = start(fleet)
    with fleet.begin() as connection:
        begin_node(connection, made.id, 1, TS)
        assert abort_rollout(connection, made.id, "enough", TS + 1)
        assert report_node(connection, made.id, 1, "gate")
        assert unfinished_rollout(connection, "reid") is not None
        assert not set_command(connection, made.id, None)
        end_node(connection, made.id, 1, "succeeded", TS + 2)
        assert abort_rollout(connection, made.id, "enough", TS + 3)  # nobody is at work any more
        assert unfinished_rollout(connection, "reid") is None
        assert not abort_rollout(connection, made.id, "enough", TS + 4)
    assert statuses(fleet, made) == ["succeeded", "aborted", "aborted"]


def test_an_abort_of_what_only_waits_frees_the_model_at_once(fleet: Engine) -> None:
    made = start(fleet)
    wait_for(fleet, made, 1)
    with fleet.begin() as connection:
        assert abort_rollout(connection, made.id, "enough", TS + 1)
        assert unfinished_rollout(connection, "reid") is None
    assert statuses(fleet, made) == ["aborted"] * 3
    assert desired(fleet, 1) is None


def test_a_task_that_died_leaves_a_failure(fleet: Engine) -> None:
    made = start(fleet)
    with fleet.begin() as connection:
        for node_id in (1, 2):
            begin_node(connection, made.id, node_id, TS)
        fail_unfinished(connection, made.id, TS, wave=0)
    assert statuses(fleet, made) == ["failed", "preflight", "waiting"]


# -- pending and deadline --------------------------------------------------------------------------------------------


def second(engine: Engine) -> Rollout:
    """A roll-out of another digest after one that succeeded on nodes 1 and 2."""
    first = start(engine)
    succeed(engine, first, 1)
    succeed(engine, first, 2)
    with engine.begin() as connection:
        finish_rollout(connection, first.id, "succeeded", "done", TS)
    return start(engine, replace(NEW, run_id="manual__2", digest=DIGESTS[2], tag="2.0"), [(1, 2, 3)])


def test_a_roll_out_knows_what_nodes_should_have_had_before(fleet: Engine) -> None:
    made = second(fleet)
    with fleet.connect() as connection:
        before = [
            (node.previous_digest, node.previous_repository, node.previous_spec)
            for node in list_rollout_nodes(connection, made.id)
        ]
        assert [previous_digest(connection, made.id, node_id) for node_id in (1, 3, 9)] == [DIGESTS[1], None, None]
    assert before == [(DIGESTS[1], "reid", NEW.spec)] * 2 + [(None, None, None)]


def test_a_pending_node_is_given_up_at_the_deadline_and_keeps_what_it_has(fleet: Engine) -> None:
    made = second(fleet)
    wait_for(fleet, made, 1)
    wait_for(fleet, made, 3)
    assert desired(fleet, 1) == (DIGESTS[2], "pending")
    with fleet.begin() as connection:
        assert expire_pending(connection, TS + 3599) == []
        assert sorted(expire_pending(connection, TS + 3600)) == [(made.id, 1), (made.id, 3)]
        assert expire_pending(connection, TS + 3600) == []
    assert statuses(fleet, made) == ["expired", "waiting", "expired"]
    assert desired(fleet, 1) == (DIGESTS[1], "running")  # it runs there, as was last found
    assert desired(fleet, 3) is None


def test_a_newer_roll_out_ends_the_wait_of_an_older_one(fleet: Engine) -> None:
    older = second(fleet)
    wait_for(fleet, older, 1)
    with fleet.begin() as connection:
        finish_rollout(connection, older.id, "succeeded", "done", TS)
    newer = start(fleet, replace(NEW, run_id="manual__3", digest=DIGESTS[3]), [(1,)])
    assert statuses(fleet, older) == ["expired", "aborted", "aborted"]
    with fleet.connect() as connection:
        assert [node.previous_digest for node in list_rollout_nodes(connection, newer.id)] == [DIGESTS[1]]


# -- roll-back -------------------------------------------------------------------------------------------------------


def test_a_roll_back_gives_each_node_what_it_had(fleet: Engine) -> None:
    made = second(fleet)
    succeed(fleet, made, 1)
    succeed(fleet, made, 3)
    wait_for(fleet, made, 2)
    with fleet.begin() as connection:
        assert begin_rollback(connection, made.id, "too many failed", TS + 9)
    assert statuses(fleet, made) == ["succeeded", "aborted", "succeeded"]
    assert desired(fleet, 1) == (DIGESTS[1], "pending")  # to be met: the newer one still runs there
    assert desired(fleet, 2) == (DIGESTS[1], "running")
    assert desired(fleet, 3) is None
    with fleet.begin() as connection:
        assert is_contested(connection, 1, "reid")  # reconcile_fleet does not do it too
        assert not begin_node(connection, made.id, 2, TS)
        assert not abort_rollout(connection, made.id, "no", TS)
        assert not set_command(connection, made.id, None)
        # nodes 1 and 3 do not answer: they go back when they do
        for node_id in (1, 3):
            end_node(connection, made.id, node_id, "pending", TS + 10)
        assert begin_rollback(connection, made.id, "too many failed", TS + 11)  # a retry
        assert finish_rollout(connection, made.id, "rolled_back", "too many failed", TS + 12)
        assert not begin_rollback(connection, made.id, "too many failed", TS + 13)
        assert not is_contested(connection, 1, "reid")
        assert expire_pending(connection, TS + 999_999) == []
        assert pending_returns(connection) == {(1, "reid"): (made.id, DIGESTS[1]), (3, "reid"): (made.id, None)}
        assert settle_pending(connection, made.id, 3, "rolled_back", TS + 20)
        assert not settle_pending(connection, made.id, 3, "rolled_back", TS + 20)
        assert list(pending_returns(connection)) == [(1, "reid")]


def test_an_assignment_that_another_roll_out_made_since_is_not_taken_back(fleet: Engine) -> None:
    older = start(fleet)
    succeed(fleet, older, 1)
    with fleet.begin() as connection:
        finish_rollout(connection, older.id, "succeeded", "done", TS)
    newer = start(fleet, replace(NEW, run_id="manual__2", digest=DIGESTS[2]), [(1,)])
    succeed(fleet, newer, 1)
    with fleet.begin() as connection:
        give_back(connection, older.id, 1, TS)
    assert desired(fleet, 1) == (DIGESTS[2], "running")


# -- what reconcile_fleet does ---------------------------------------------------------------------------------------


def test_what_was_found_is_kept_unless_the_assignment_changed_meanwhile(fleet: Engine) -> None:
    made = start(fleet, waves=[(1,)])
    succeed(fleet, made, 1)
    with fleet.begin() as connection:
        (found,) = list_assignments(connection)
        assert record_found(
            connection, found, TS + 60, status="drifted", running_digest=DIGESTS[3], container_id="c9", message="other"
        )
        (drifted,) = list_assignments(connection)
        assert (drifted.status, drifted.running_digest, drifted.checked_ts) == ("drifted", DIGESTS[3], TS + 60)
        assert record_found(connection, drifted, TS + 120, status="unreachable", message="no answer")
        (silent,) = list_assignments(connection)
        assert (silent.status, silent.running_digest, silent.container_id) == ("unreachable", DIGESTS[3], "c9")
        assert not record_found(connection, replace(silent, ts=TS - 1), TS + 180, status="running")
        finish_rollout(connection, made.id, "succeeded", "done", TS)
    start(fleet, replace(NEW, run_id="manual__2"), [(1,)])
    with fleet.begin() as connection:
        assert not record_found(connection, silent, TS + 180, status="running")


def test_a_repair_and_a_roll_out_see_each_other(fleet: Engine) -> None:
    made = start(fleet, waves=[(1,)])
    succeed(fleet, made, 1)
    with fleet.begin() as connection:
        (found,) = list_assignments(connection)
        assert claim_repair(connection, found, TS + 60)
        assert is_being_repaired(connection, 1, "reid", TS + 61)
        assert not is_being_repaired(connection, 1, "reid", TS + 60 + assignments.REPAIR_TIMEOUT_S)
        assert not is_contested(connection, 1, "reid")
        assert not claim_repair(connection, found, TS + 61), "another run of reconcile_fleet"
        assert renew_repair(connection, found, TS + 120)
        assert not claim_repair(connection, found, TS + 60 + assignments.REPAIR_TIMEOUT_S)
        assert claim_repair(connection, found, TS + 120 + assignments.REPAIR_TIMEOUT_S), "one that died"
        assert renew_repair(connection, found, TS + 120)
        finish_rollout(connection, made.id, "succeeded", "done", TS)
    start(fleet, replace(NEW, run_id="manual__2"), [(1,)])
    with fleet.begin() as connection:
        assert is_contested(connection, 1, "reid")
        (repairing,) = list_assignments(connection)
        assert not claim_repair(connection, repairing, TS + 5000)
        assert not renew_repair(connection, repairing, TS + 130)


@pytest.mark.parametrize(
    ("status", "age_s", "message", "due"),
    [
        ("running", 10, None, False),
        ("running", 300, None, True),
        ("drifted", 10, "other", False),
        ("unreachable", 10, "no answer", True),
        ("pending", 10, None, True),
        ("pending", 10, "it failed there", False),
        ("pending", 300, "it failed there", True),
        ("repairing", 300, None, False),
        ("repairing", 900, None, True),
        ("running", None, None, True),
    ],
)
def test_when_a_node_is_looked_at(
    fleet: Engine, status: str, age_s: int | None, message: str | None, due: bool
) -> None:
    made = start(fleet)
    succeed(fleet, made, 1)
    with fleet.connect() as connection:
        (found,) = list_assignments(connection)
    checked_ts = None if age_s is None else TS - age_s
    seen = replace(found, status=status, checked_ts=checked_ts, message=message)
    assert is_due(seen, TS, 300, is_up=True) == due
    assert is_due(seen, TS, 300, is_up=False) == (due and (status, age_s) != ("unreachable", 10))


def test_a_removed_node_has_no_assignment_to_meet(fleet: Engine) -> None:
    made = start(fleet)
    succeed(fleet, made, 1)
    with fleet.begin() as connection:
        remove_node(connection, "n1", TS)
        assert list_assignments(connection) == []
        assignments.forget_node(connection, 1, TS)
        assert connection.execute(text("SELECT * FROM assignments")).all() == []


def test_no_roll_out_waits_for_a_node_that_was_removed(fleet: Engine) -> None:
    made = start(fleet, replace(NEW, deadline_ts=FOREVER_TS), ((1, 2), (3,)))
    succeed(fleet, made, 1)
    wait_for(fleet, made, 2)
    with fleet.begin() as connection:
        remove_node(connection, "n2", TS)
        assignments.forget_node(connection, 2, TS)
    found = statuses(fleet, made)
    assert found == ["succeeded", "expired", "waiting"]
    assert judge(found[:2], Thresholds(90, 10), is_late=False).step is Step.GIVE_UP
    assert judge(found[:2], Thresholds(50, 10), is_late=False).step is Step.GO_ON


def test_rows_for_people_count_the_nodes(fleet: Engine) -> None:
    made = second(fleet)
    succeed(fleet, made, 1)
    wait_for(fleet, made, 3)
    with fleet.connect() as connection:
        newest, oldest = rollout_rows(connection)
        assert [row["id"] for row in rollout_rows(connection, limit=1)] == [made.id]
    assert (newest["nodes"], newest["succeeded"], newest["failed"], newest["pending"]) == (3, 1, 0, 1)
    assert (oldest["tag"], oldest["status"], oldest["waves"]) == ("1.0", "succeeded", [1, "100%"])
