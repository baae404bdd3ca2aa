"""Single runs on real engines: how they end, and what becomes of them when a task, a link or an engine dies."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Engine

from evc.errors import ConnectionCut, ContainerFailed, NodeError, NodeRefused, Stopped
from evc.fleet.images import Image
from evc.inference.once import OnceRun
from tests.inference.nodes import (
    counting,
    labels,
    left_on,
    order,
    payload,
    registered,
    rows,
    run_once,
    run_rows,
    start_once,
    watcher,
)
from tests.rollout.nodes import Images
from tests.servers.edge import EdgeFleet
from tests.servers.edge_node import EdgeNode

pytestmark = [pytest.mark.fleet, pytest.mark.xdist_group("fleet")]


@pytest.fixture
def images(edge_fleet: EdgeFleet) -> Images:
    return Images(edge_fleet)


@pytest.fixture
def nodes(edge_nodes: list[EdgeNode], edge_fleet: EdgeFleet) -> list[EdgeNode]:
    for node in edge_nodes:
        node.trust(edge_fleet.registry)
    return edge_nodes


class Bench:
    """One node, one image, one database."""

    def __init__(self, database: Engine, node: EdgeNode, images: Images) -> None:
        self.database, self.node, self.images = database, node, images
        self.node_id = registered(database, node)[0]

    def order(self, script: str, **more: Any) -> Any:
        return order(self.node_id, self.images.push(script), self.images.registry, **more)

    def run(self, script: str, **more: Any) -> Any:
        return run_once(self.database, self.node, self.order(script, **more))

    def until(self, is_so: Callable[[], bool], timeout_s: float = 30) -> None:
        deadline = time.monotonic() + timeout_s
        while not is_so():
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture
def bench(sqlite_engine: Engine, nodes: list[EdgeNode], images: Images) -> Bench:
    return Bench(sqlite_engine, nodes[0], images)


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def test_three_nodes_at_once_on_both_databases(engine: Engine, nodes: list[EdgeNode], images: Images) -> None:
    ids, image = registered(engine, *nodes), images.push(counting(500))
    with ThreadPoolExecutor(3) as threads:
        runs = list(
            threads.map(
                lambda it: run_once(engine, it[0], order(it[1], image, images.registry)), zip(nodes, ids, strict=True)
            )
        )
    for run, node in zip(runs, nodes, strict=True):
        assert (run.status, run.exit_code, run.lines) == ("succeeded", 0, 500)
        assert labels(engine, run.id) == numbers(500)
        assert left_on(node) == []
    row = run_rows(engine)[0]
    assert (row["frames"], row["results"], row["errors"], row["malformed"]) == (500, 500, 0, 0)
    assert row["frames_per_s"] > 100
    assert row["latency_p99_ms"] == pytest.approx(12.5, rel=0.01)
    assert {row["digest"] for row in rows(engine)} == {image.digest}


def test_the_container_is_told_what_to_look_at(bench: Bench) -> None:
    bench.node.write_file("/data/in/a b.txt", b"hello\n")
    script = """echo '{"kind":"person","label":"'"$EVC_INPUT $EVC_INPUT_KIND $EVC_LIMIT $EVC_RUN"'"}'
        if [ -d "$EVC_INPUT" ]; then ls "$EVC_INPUT"; else cat "$EVC_INPUT"; fi
        echo x >"$EVC_INPUT" || echo read-only; true"""
    bench.run(script, given="/data/in/a b.txt", limit=7)
    said = [row["label"] if row["kind"] == "person" else payload(row)["text"] for row in rows(bench.database)]
    assert said[0].split(" ")[-3:] == ["file", "7", "manual__1"]
    assert said[1:] == ["hello", "read-only"]
    run = bench.run(script, given="/data/in", run_id="manual__2")
    assert rows(bench.database, run.id)[0]["label"].split(" ")[1] == "folder"
    assert payload(rows(bench.database, run.id)[1])["text"] == "a b.txt"
    run = bench.run("""echo '{"kind":"person","label":"'"$EVC_INPUT"'"}'""", given="rtsp://me:secret@cam/1", run_id="3")
    assert labels(bench.database, run.id) == ["rtsp://me:secret@cam/1"]
    assert run.input == "rtsp://***@cam/1"


def test_what_is_not_there_or_not_taken_is_refused(bench: Bench) -> None:
    with pytest.raises(ContainerFailed, match="/data/none"):
        bench.run("true", given="/data/none")
    bench.node.write_file("/data/in/a.txt", b"")
    with pytest.raises(ContainerFailed, match="is a folder; reid takes file"):
        bench.run("true", given="/data/in", model=watcher(inputs=["file"]), run_id="2")
    assert [row["status"] for row in run_rows(bench.database)] == ["failed", "failed"]
    assert left_on(bench.node) == []


def test_malformed_lines_are_kept_and_end_nothing(bench: Bench) -> None:
    script = """echo hello; echo '{"kind":"dog"}'; printf '\\000\\001\\377\\n'
        head -c 300000 /dev/zero | tr '\\000' x; echo; echo
        echo '{"kind":"person","label":"1"}'; printf '{"kind":"person"}'"""
    run = bench.run(script)
    found = rows(bench.database)
    assert (run.status, run.lines) == ("succeeded", 6)
    assert [row["kind"] for row in found] == ["malformed"] * 4 + ["person"] * 2
    assert payload(found[3])["bytes"] == 300_000
    assert run_rows(bench.database)[0]["malformed"] == 4


def test_an_exit_code_and_the_last_lines_are_told(bench: Bench) -> None:
    run = bench.run(counting(3, then="for i in $(seq 20); do echo oh no $i >&2; done; exit 7"))
    assert (run.status, run.exit_code, run.oom_killed, run.lines) == ("failed", 7, False, 3)
    assert run.message.splitlines() == [
        "exit code 7; its last lines:",
        *(f"oh no {number}" for number in range(11, 21)),
    ]
    assert left_on(bench.node) == []


def test_out_of_memory_is_told(bench: Bench) -> None:
    run = bench.run(counting(3, then="""s=xxxxxxxxxxxxxxxx; while :; do s="$s$s"; done"""))
    assert (run.status, run.exit_code, run.oom_killed, run.lines) == ("failed", 137, True, 3)
    assert run.message.startswith("out of memory: it was killed at its limit of 32 MiB")


def test_after_its_time_it_is_stopped_and_what_came_is_kept(bench: Bench) -> None:
    begun = time.monotonic()
    run = bench.run(counting(5, then="sleep 1000"), timeout_s=3)
    assert time.monotonic() - begun < 30
    assert (run.status, run.lines, run.message) == ("timeout", 5, "stopped after 3 s (exit code 137)")
    assert left_on(bench.node) == []


def test_a_cancel_removes_the_container_and_keeps_the_lines(bench: Bench) -> None:
    given = bench.order(counting(5, then="sleep 1000"))
    with pytest.raises(asyncio.CancelledError):
        run_once(bench.database, bench.node, given, cancel_when=lambda: len(rows(bench.database)) >= 5)
    assert [row["status"] for row in run_rows(bench.database)] == ["cancelled"]
    assert labels(bench.database) == numbers(5)
    assert left_on(bench.node) == []


@pytest.mark.parametrize("killed_at", [0, 1, 60, 200])
def test_a_killed_task_is_read_on_by_the_next_without_double_or_gap(bench: Bench, killed_at: int) -> None:
    given = bench.order(counting(240, 0.02))
    process = start_once(bench.database, bench.node, given)
    bench.until(lambda: bool(left_on(bench.node)) if not killed_at else len(rows(bench.database)) >= killed_at)
    process.kill()
    process.join()
    run = run_once(bench.database, bench.node, given)
    assert (run.status, run.lines) == ("succeeded", 240)
    assert labels(bench.database) == numbers(240)
    assert left_on(bench.node) == []
    assert len(run_rows(bench.database)) == 1
    assert run_rows(bench.database)[0]["frames"] == 240


def test_a_task_taken_for_dead_stores_nothing_twice(bench: Bench) -> None:
    given = bench.order(counting(100, 0.03))
    process = start_once(bench.database, bench.node, given)
    bench.until(lambda: len(rows(bench.database)) >= 10)
    with suppress(Stopped):  # one of both is stopped, whichever stores less quickly
        run_once(bench.database, bench.node, given)
    process.join(60)
    assert labels(bench.database) == numbers(100)
    assert run_rows(bench.database)[0]["status"] == "succeeded"


def test_what_ended_between_two_tries_is_not_run_again(bench: Bench) -> None:
    given = bench.order(counting(20, then="exit 5"))
    process = start_once(bench.database, bench.node, given)
    bench.until(lambda: bool(left_on(bench.node)))
    process.kill()
    process.join()
    bench.until(lambda: not bench.node.run("docker", "ps", "-q").strip())
    run = run_once(bench.database, bench.node, given)
    assert (run.status, run.exit_code, labels(bench.database)) == ("failed", 5, numbers(20))


def test_a_run_that_is_cleared_replaces_its_results(bench: Bench) -> None:
    given = bench.order(counting(20))
    first, second = run_once(bench.database, bench.node, given), run_once(bench.database, bench.node, given)
    assert (first.id, second.id, second.status) == (first.id, first.id, "succeeded")
    assert labels(bench.database) == numbers(20)


def away(bench: Bench, given: Any) -> None:
    """Carry out an order while the node does not answer, as the task's hook does."""
    with pytest.raises(NodeError) as caught:
        run_once(bench.database, bench.node, given)
    OnceRun(bench.database, given, bench.node.name, logging.getLogger("tests")).out_of_touch(caught.value)


def test_a_run_that_is_cleared_says_that_the_node_is_away_and_keeps_its_results_until_it_is_back(bench: Bench) -> None:
    given = bench.order(counting(20))
    first = run_once(bench.database, bench.node, given)
    bench.node.cut()
    try:
        for _ in range(2):
            away(bench, given)
            (row,) = run_rows(bench.database)
            assert (row["status"], row["exit_code"], row["lines"], row["frames"]) == ("failed", None, 20, 20)
            assert row["message"].startswith(f"{bench.node.name}: ")
            assert labels(bench.database) == numbers(20)
    finally:
        bench.node.restore()
    second = run_once(bench.database, bench.node, given)
    assert (second.id, second.status, second.message, second.lines) == (first.id, "succeeded", None, 20)
    assert labels(bench.database) == numbers(20)


def test_a_run_that_ended_and_could_not_clear_away_is_not_lost_while_the_node_is_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cut(*_: object) -> None:
        raise ConnectionCut("the link was cut")

    given = bench.order(counting(20, then="exit 5"))
    with monkeypatch.context() as patched, pytest.raises(ConnectionCut):
        patched.setattr("evc.engine.client.Engine.remove", cut)
        run_once(bench.database, bench.node, given)
    assert [(row["status"], row["exit_code"]) for row in run_rows(bench.database)] == [("failed", 5)]
    bench.node.cut()
    try:
        away(bench, given)
    finally:
        bench.node.restore()
    assert [(row["status"], row["exit_code"]) for row in run_rows(bench.database)] == [("failed", None)]
    run = run_once(bench.database, bench.node, given)  # nothing runs a second time: its container knows
    assert (run.status, run.exit_code, labels(bench.database)) == ("failed", 5, numbers(20))
    assert left_on(bench.node) == []


def test_a_cut_link_is_no_verdict(bench: Bench) -> None:
    given = bench.order(counting(200, 0.05))
    with ThreadPoolExecutor(1) as thread:
        trying = thread.submit(run_once, bench.database, bench.node, given)
        bench.until(lambda: len(rows(bench.database)) >= 20)
        bench.node.cut()
        try:
            with pytest.raises(NodeError):
                trying.result(60)
            found = run_rows(bench.database)[0]
            assert (found["status"], found["finished_ts"]) == ("unreachable", None)
        finally:
            bench.node.restore()
    run = run_once(bench.database, bench.node, given)
    assert (run.status, labels(bench.database)) == ("succeeded", numbers(200))


def test_a_container_that_someone_removed_is_told(bench: Bench) -> None:
    given = bench.order(counting(5, then="sleep 1000"))
    process = start_once(bench.database, bench.node, given)
    bench.until(lambda: len(rows(bench.database)) >= 5)
    process.kill()
    process.join()
    bench.node.run("sh", "-c", "docker rm -f $(docker ps -q)")
    run = run_once(bench.database, bench.node, given)
    assert (run.status, run.message) == ("failed", "its container was removed by someone before it had ended")
    assert labels(bench.database) == numbers(5)


def test_without_an_account_or_an_image_there_is_a_clear_refusal(bench: Bench, edge_fleet: EdgeFleet) -> None:
    none = order(bench.node_id, Image("reid", "sha256:" + "0" * 64), bench.images.registry)
    with pytest.raises(NodeError, match="pull of"):
        run_once(bench.database, bench.node, none)
    given = bench.order("true")
    bench.node.run("rm", "-f", "/root/.docker/config.json")
    with pytest.raises(NodeRefused, match="account"):
        run_once(bench.database, bench.node, given)
    bench.node.trust(edge_fleet.registry)
    assert run_once(bench.database, bench.node, given).status == "succeeded"
