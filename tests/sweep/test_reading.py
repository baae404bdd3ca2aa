"""From answers, and silence, to rows."""

from __future__ import annotations

from typing import Any

import pytest

from evc.fleet.nodes import Node
from evc.probes import PROBES
from evc.probes.answer import parse_answer
from evc.sweep.reading import Memory, Outcome, answered, due_probes, silent

NODE = Node("edge1", "h", id=7)
BOOT, OTHER_BOOT = "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"
TS = 1_000_000_200


def sections(**files: str) -> bytes:
    return "".join(f"==> {path} <==\n{text}\n\n" for path, text in files.items()).encode()


def answer(*, uptime_s: float, boot_id: str = BOOT, stat: str = "cpu  0 0 0 0 0 0 0 0 0 0", end: bool = True) -> bytes:
    files = {
        "/proc/uptime": f"{uptime_s:.2f} 1.00",
        "/proc/sys/kernel/random/boot_id": boot_id,
        "/proc/stat": stat,
        "/proc/loadavg": "0.10 0.20 0.30 1/84 19427",
    }
    return sections(**files) + (b"==> end <==\n" if end else b"")


def turn(memory: Memory, stdout: bytes, ts: int, missing: str | None = None) -> Outcome:
    return answered(NODE, memory, parse_answer(stdout), PROBES.values(), ts=ts, duration_s=0.1, missing=missing)


def cpu(user: int, idle: int) -> str:
    return f"cpu  {user} 0 0 {idle} 0 0 0 0 0 0"


def sample(outcome: Outcome) -> dict[str, Any]:
    (row,) = outcome.rows["node_samples"]
    return row


def kinds(outcome: Outcome) -> list[str]:
    return [event["kind"] for event in outcome.rows.get("node_events", [])]


def test_a_first_answer_has_gauges_but_no_rates_and_says_that_the_node_is_up() -> None:
    outcome = turn(Memory(), answer(uptime_s=100), TS)
    assert (sample(outcome)["ts"], sample(outcome)["node_id"], sample(outcome)["up"]) == (TS, 7, 1)
    assert sample(outcome)["load1"] == 0.1
    assert sample(outcome).get("cpu_usage_ratio") is None
    assert kinds(outcome) == ["up"]
    assert outcome.node == {"id": 7, "last_seen_ts": TS, "status": "up"}


def test_rates_come_from_the_reading_that_was_kept() -> None:
    first = turn(Memory(), answer(uptime_s=100, stat=cpu(1000, 1000)), TS)
    kept = Memory.from_row(first.rows["node_readings"][0])  # as a new run reads it from the database
    second = turn(kept, answer(uptime_s=130, stat=cpu(1300, 3700)), TS + 30)
    assert sample(second)["cpu_usage_ratio"] == pytest.approx(0.1)
    assert kinds(second) == []
    assert "status" not in second.node


def test_after_a_reboot_there_is_an_event_and_no_rate() -> None:
    first = turn(Memory(), answer(uptime_s=100, stat=cpu(1000, 1000)), TS)
    second = turn(first.memory, answer(uptime_s=20, boot_id=OTHER_BOOT, stat=cpu(10, 1990)), TS + 30)
    assert kinds(second) == ["reboot"]
    assert second.rows["node_events"][0]["message"] == "rebooted, up for 20 s"
    assert sample(second).get("cpu_usage_ratio") is None
    third = turn(second.memory, answer(uptime_s=50, boot_id=OTHER_BOOT, stat=cpu(310, 4690)), TS + 60)
    assert sample(third)["cpu_usage_ratio"] == pytest.approx(0.1)


def test_a_reading_missed_in_between_only_makes_the_interval_longer() -> None:
    first = turn(Memory(), answer(uptime_s=100, stat=cpu(1000, 1000)), TS)
    broken = turn(first.memory, answer(uptime_s=130, stat="junk"), TS + 30)
    assert sample(broken).get("cpu_usage_ratio") is None
    third = turn(broken.memory, answer(uptime_s=160, stat=cpu(1600, 6400)), TS + 60)
    assert sample(third)["cpu_usage_ratio"] == pytest.approx(0.1)


def test_a_probe_that_fails_costs_only_its_own_columns_and_is_noted_once() -> None:
    outcomes = [turn(Memory(), answer(uptime_s=100, stat="junk"), TS)]
    outcomes.append(turn(outcomes[-1].memory, answer(uptime_s=130, stat="junk"), TS + 30))
    outcomes.append(turn(outcomes[-1].memory, answer(uptime_s=160), TS + 60))
    assert [sample(outcome)["load1"] for outcome in outcomes] == [0.1, 0.1, 0.1]
    runs = [outcome.rows.get("probe_runs", []) for outcome in outcomes]
    assert [[(run["probe"], run["success"]) for run in each] for each in runs] == [
        [("cpu", False)],
        [],
        [("cpu", True)],
    ]
    assert "/proc/stat" in runs[0][0]["message"]


def test_a_cut_answer_counts_as_far_as_it_came() -> None:
    whole = turn(Memory(), answer(uptime_s=100, stat=cpu(1, 1)), TS)
    cut = answer(uptime_s=130, end=False).partition(b"==> /proc/loadavg")[0] + b"==> /proc/loadavg <==\n0.1"
    outcome = turn(whole.memory, cut, TS + 30, missing="answer not complete: cut")
    assert sample(outcome)["up"] == 1
    assert sample(outcome)["uptime_s"] == 130
    assert sample(outcome).get("load1") is None


def test_silence_is_a_row_and_becomes_down_at_the_second_miss_only() -> None:
    up = turn(Memory(), answer(uptime_s=100), TS)
    memory, found = up.memory, []
    for step in range(1, 4):
        outcome = silent(NODE, memory, "edge1: no answer", kind=None, ts=TS + 30 * step, duration_s=1.0)
        assert sample(outcome) == {"ts": TS + 30 * step, "node_id": 7, "up": 0, "sweep_duration_s": 1.0}
        found.append((kinds(outcome), outcome.node.get("status")))
        memory = outcome.memory
    assert found == [([], None), (["down"], "down"), ([], None)]
    back = turn(memory, answer(uptime_s=220), TS + 120)
    assert kinds(back) == ["up"]
    assert back.node["status"] == "up"
    assert [(run["probe"], run["success"]) for run in back.rows["probe_runs"]] == [("ssh", True)]


def test_one_missed_sweep_alone_is_no_event() -> None:
    up = turn(Memory(), answer(uptime_s=100), TS)
    missed = silent(NODE, up.memory, "edge1: no answer", kind=None, ts=TS + 30, duration_s=1.0)
    back = turn(missed.memory, answer(uptime_s=160), TS + 60)
    assert (kinds(missed), kinds(back)) == ([], [])


def test_a_node_that_never_answered_becomes_down_too() -> None:
    first = silent(NODE, Memory(), "edge1: refused", kind=None, ts=TS, duration_s=None)
    second = silent(NODE, first.memory, "edge1: refused", kind=None, ts=TS + 30, duration_s=None)
    assert (kinds(first), kinds(second)) == ([], ["down"])


def test_an_event_does_not_say_again_whose_it_is() -> None:
    memory = silent(NODE, Memory(), "edge1: refused", kind=None, ts=TS, duration_s=None).memory
    reason = "edge1: 127.0.0.1 port 22: refused"
    own = silent(NODE, memory, reason, kind="host_key_changed", ts=TS + 30, duration_s=None)
    assert [event["message"] for event in own.rows["node_events"]] == ["127.0.0.1 port 22: refused"] * 2
    assert own.failure == reason
    jump = silent(NODE, memory, "edge10: no answer", kind=None, ts=TS + 30, duration_s=None)
    assert [event["message"] for event in jump.rows["node_events"]] == ["edge10: no answer"]


def test_an_event_of_a_failure_is_given_once_as_long_as_it_lasts() -> None:
    memory, found = turn(Memory(), answer(uptime_s=100), TS).memory, []
    for step, reason in enumerate(["changed to A", "changed to A", "changed to B"], start=1):
        outcome = silent(NODE, memory, reason, kind="host_key_changed", ts=TS + 30 * step, duration_s=0.1)
        found.append(kinds(outcome))
        memory = outcome.memory
    assert found == [["host_key_changed"], ["down"], ["host_key_changed"]]


def test_slow_probes_are_asked_at_first_and_then_once_in_their_slot() -> None:
    assert {probe.name for probe in due_probes(Memory(), TS, 7)} == set(PROBES)
    every_sweep = {probe.name for probe in PROBES.values() if probe.interval_s == 0}
    memory = Memory(counters={name: [100.0, TS, None, {}] for name in PROBES})
    assert {probe.name for probe in due_probes(memory, TS, 7)} == every_sweep
    assert "storage" in {probe.name for probe in due_probes(memory, TS + 300, 7)}


DF = b"==> @storage <==\nType 1K-blocks Used Avail Inodes IFree Mounted on\next4 100 40 60 10 5 /\n==> @storage 0 <==\n"
MOUNTS = sections(**{"/proc/self/mounts": "/dev/sda1 / ext4 rw 0 0"})


def test_what_a_slow_probe_read_stands_until_its_next_reading() -> None:
    first = turn(Memory(), MOUNTS + DF + answer(uptime_s=100), TS)
    kept = Memory.from_row(first.rows["node_readings"][0])
    due = [probe for probe in PROBES.values() if probe.interval_s == 0]
    second = answered(NODE, kept, parse_answer(answer(uptime_s=130)), due, ts=TS + 30, duration_s=0.1, missing=None)
    assert sample(first)["storage_used_bytes"] == sample(second)["storage_used_bytes"] == 40 * 1024
    assert "storage_samples" not in second.rows
    hanging = answer(uptime_s=400, end=False) + b"==> @storage <==\n"
    third = turn(second.memory, hanging, TS + 300, missing="answer not complete: time-out")
    fourth = answered(
        NODE, third.memory, parse_answer(answer(uptime_s=430)), due, ts=TS + 330, duration_s=0.1, missing=None
    )
    assert sample(third).get("storage_used_bytes") is None
    assert sample(fourth).get("storage_used_bytes") is None


def test_a_command_that_hangs_is_not_started_again_in_its_slot() -> None:
    hanging = answer(uptime_s=100, end=False) + b"==> @storage <==\n"
    outcome = turn(Memory(), hanging, TS, missing="answer not complete: time-out")
    assert outcome.rows["probe_runs"][0]["message"] == "answer not complete: time-out; its command did not end"
    assert outcome.memory.counters["storage"][1] == TS
    assert sample(outcome)["up"] == 1
    assert sample(outcome)["load1"] == 0.1
