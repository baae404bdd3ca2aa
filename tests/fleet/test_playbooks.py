"""Ansible's events, read."""

from __future__ import annotations

from typing import Any

import pytest

from evc.errors import PlaybookFailed
from evc.fleet.playbooks import MAX_MESSAGE, HostResult, Progress, Report, Status, message_of


def event(kind: str, host: str = "edge-1", task: str = "copy CA", **more: Any) -> dict[str, Any]:
    return {"event": f"runner_on_{kind}", "event_data": {"host": host, "task": task, **more}}


def stats(**counts: dict[str, int]) -> dict[str, Any]:
    return {"event": "playbook_on_stats", "event_data": counts}


def taken(*events: dict[str, Any], secrets: tuple[str, ...] = ()) -> tuple[Progress, list[str]]:
    lines: list[str] = []
    progress = Progress(lines.append, lines.append, secrets)
    for one in events:
        progress.take(one)
    return progress, lines


def test_each_host_and_task_is_a_line_as_it_happens() -> None:
    progress, lines = taken(
        event("ok", res={"changed": False}),
        event("ok", "edge-2", res={"changed": True}),
        event("skipped", "edge-3", res={}),
        event("failed", "edge-4", res={"msg": "no room"}),
        event("unreachable", "edge-5", res={"msg": "Task failed: no route"}),
        event("failed", "edge-6", res={"msg": "so what"}, ignore_errors=True),
        event("ok", "edge-7", "speak", res={"msg": "hello"}, task_action="debug"),
        stats(failures={"edge-4": 1}, dark={"edge-5": 1}, changed={"edge-2": 1}),
    )
    assert lines == [
        "edge-1: ok: copy CA",
        "edge-2: changed: copy CA",
        "edge-3: skipped: copy CA",
        "edge-4: FAILED: copy CA: no room",
        "edge-5: unreachable: copy CA: no route",
        "edge-6: failed, ignored: copy CA: so what",
        "edge-7: ok: speak: hello",
    ]
    assert progress.is_complete
    assert progress.results([f"edge-{number}" for number in range(1, 9)]) == {
        "edge-1": HostResult("edge-1", Status.OK),
        "edge-2": HostResult("edge-2", Status.OK, changed=True),
        "edge-3": HostResult("edge-3", Status.OK),
        "edge-4": HostResult("edge-4", Status.FAILED, False, "copy CA", "no room"),
        "edge-5": HostResult("edge-5", Status.UNREACHABLE, False, "copy CA", "no route"),
        "edge-6": HostResult("edge-6", Status.OK),
        "edge-7": HostResult("edge-7", Status.OK),
        "edge-8": HostResult("edge-8", Status.UNREACHABLE, False, None, "Ansible ran nothing there"),
    }


def test_what_was_rescued_is_no_failure() -> None:
    progress, _ = taken(event("failed", res={"msg": "no"}), stats(failures={}, rescued={"edge-1": 1}))
    assert progress.results(["edge-1"])["edge-1"].status is Status.OK


def test_without_its_end_a_failure_stays_one() -> None:
    progress, _ = taken(event("failed", res={"msg": "no"}))
    assert not progress.is_complete
    assert progress.results(["edge-1"])["edge-1"].status is Status.FAILED


def test_no_line_holds_a_secret_more_than_one_line_or_a_control_character() -> None:
    _, lines = taken(
        event("failed", res={"msg": "the password\r\n\x1b[31m hunter22 and hunter2233 " + "x" * 1000}),
        secrets=("hunter22", "hunter2233", "", "a"),
    )
    (line,) = lines
    assert line.startswith("edge-1: FAILED: copy CA: the password [31m *** and *** xxx")
    assert line.isprintable()
    assert len(line) < MAX_MESSAGE + 100


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"msg": "plain"}, "plain"),
        ({"msg": ["a", "b"]}, "a; b"),
        ({"censored": "the output has been hidden", "msg": "secret"}, "hidden by no_log"),
        ({"msg": "non-zero return code", "rc": 3, "stderr": "first\nlast\n"}, "last (exit status 3)"),
        ({"msg": "non-zero return code", "rc": 3, "stdout": "said\n"}, "said (exit status 3)"),
        ({"msg": "non-zero return code", "rc": 3}, "non-zero return code"),
        ({"msg": "One or more items failed", "results": [{}, {"failed": True, "msg": "second"}]}, "second"),
        ({"msg": "No start of json", "module_stderr": "no python\n"}, "No start of json: no python"),
        ({"msg": "@@ REMOTE HOST IDENTIFICATION HAS CHANGED! @@"}, "its host key is not the one that is pinned"),
        ({"msg": "No ED25519 host key is known for e"}, "it has no pinned host key yet: its first sweep pins it"),
        ({}, "no reason given"),
    ],
)
def test_the_reason_is_found(result: dict[str, Any], message: str) -> None:
    assert message_of(result) == message


def test_a_crash_of_ansible_tells_its_first_error() -> None:
    progress, _ = taken(
        {"event": "verbose", "stdout": "\n[WARNING]: old\n[ERROR]: couldn't resolve module\nOrigin: x\n"}
    )
    assert progress.crash() == "couldn't resolve module"
    assert taken()[0].crash() == "it said nothing"


def test_the_playbook_s_own_data() -> None:
    progress, _ = taken(stats(artifact_data={"size": 3}))
    assert progress.data() == {"size": 3}


def test_a_report_raises_for_hosts_that_failed() -> None:
    bad = {f"edge-{n}": HostResult(f"edge-{n}", Status.FAILED, False, "t", "no") for n in range(5)}
    away = {"away": HostResult("away", Status.UNREACHABLE, False, None, "no route")}
    with pytest.raises(PlaybookFailed, match="^x: edge-0: FAILED: t: no; edge-1: .*; edge-2: .*; and 2 more$"):
        Report("x", bad).raise_failures()
    with pytest.raises(PlaybookFailed, match="^x: away: unreachable: no route$"):
        Report("x", away).raise_failures()
    Report("x", away).raise_failures(unreachable=False)
    Report("x", {"edge-1": HostResult("edge-1", Status.OK)}).raise_failures()
