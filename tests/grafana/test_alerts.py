"""Alert rules: as files, and on data on which they have to fire, and to end."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
import yaml
from sqlalchemy import Connection, Engine, insert, text, update

from evc.store import tables
from evc.store.registry_checks import record_check
from evc.store.rollouts import finish_rollout
from tests.grafana.documents import PROJECT, UIDS, load
from tests.grafana.fleet import DIGESTS, GB
from tests.grafana.macros import Range, Request, on_server
from tests.grafana.test_queries import ask, is_number
from tools.dashboards.files import FOLDERS

START = 1_760_000_400
DAY_S = 86400


@cache
def rules(backend: str) -> dict[str, dict[str, Any]]:
    """Return the committed rules, by uid."""
    document = yaml.safe_load((PROJECT / FOLDERS[backend] / "provisioning/alerting/rules.yaml").read_text())
    return {rule["uid"]: rule for group in document["groups"] for rule in group["rules"]}


UIDS_OF_RULES = list(rules("postgresql"))
NAMES = {"node", "mountpoint", "model", "rollout", "registry"}


def seconds(duration: str) -> int:
    """Return the seconds of a duration such as ``5m``."""
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600}[duration[-1]]


# -- as files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", FOLDERS)
def test_every_rule_is_whole(backend: str) -> None:
    for uid, rule in rules(backend).items():
        assert re.fullmatch(r"[a-z-]{1,40}", uid)
        assert seconds(rule["for"]) > 0
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert {"summary", "description", "dashboard"} == set(rule["annotations"])
        assert rule["condition"] == "B"
        assert [part["refId"] for part in rule["data"]] == ["A", "B"]
        assert rule["notification_settings"]["receiver"] == "EVC"


@pytest.mark.parametrize("backend", FOLDERS)
def test_rules_lead_to_panels_that_are_there(backend: str) -> None:
    for rule in rules(backend).values():
        board = load(rule["dashboardUid"], backend)
        assert rule["panelId"] in {panel["id"] for panel in board["panels"]}
        address = rule["annotations"]["dashboard"]
        assert f"d/{rule['dashboardUid']}/" in address
        variables = {variable["name"] for variable in board["templating"]["list"]}
        assert set(re.findall(r"var-(\w+)=", address)) <= variables


@pytest.mark.parametrize("backend", FOLDERS)
def test_what_is_about_a_node_names_it(backend: str) -> None:
    for rule in rules(backend).values():
        sql = rule["data"][0]["model"].get("rawSql") or rule["data"][0]["model"]["queryText"]
        labels = set(re.findall(r"AS (\w+)", sql)) & NAMES
        said = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        assert said == labels, rule["uid"]


@pytest.mark.parametrize("backend", FOLDERS)
def test_grafana_leaves_the_texts_alone(backend: str) -> None:
    """It takes ``${NAME}`` in them for its environment's; see pkg/services/provisioning/alerting/rules_types.go."""
    for rule in rules(backend).values():
        assert "${" not in str(rule["annotations"])
        assert "$" not in rule["uid"] + rule["title"] + str(rule["labels"])


def test_both_data_sources_have_the_same_rules() -> None:
    plain = [{uid: (rule["for"], rule["annotations"]) for uid, rule in rules(backend).items()} for backend in FOLDERS]
    assert plain[0] == plain[1]


def test_whom_to_tell_comes_from_the_environment() -> None:
    for backend in FOLDERS:
        document = yaml.safe_load(
            (PROJECT / FOLDERS[backend] / "provisioning/alerting/contact-points.yaml").read_text()
        )
        (receiver,) = document["contactPoints"][0]["receivers"]
        assert receiver["type"] == "$EVC_ALERT_TYPE"
        assert set(receiver["settings"].values()) == {"$EVC_ALERT_TARGET"}


def test_the_other_files_name_the_data_source_and_the_folder() -> None:
    for backend, folder in FOLDERS.items():
        sources = yaml.safe_load((PROJECT / folder / "provisioning/datasources/evc.yaml").read_text())["datasources"]
        assert [source["uid"] for source in sources] == ["evc-metrics"]
        assert load(UIDS[0], backend)["panels"][0]["datasource"]["type"] == sources[0]["type"]
        assert "password" not in str(sources[0]["jsonData"]).lower()
        (provider,) = yaml.safe_load((PROJECT / folder / "provisioning/dashboards/evc.yaml").read_text())["providers"]
        assert provider["options"]["path"] == "$EVC_GRAFANA_DASHBOARDS"


# -- on data -----------------------------------------------------------------------------------------------------------


@dataclass
class Watch:
    """One rule, evaluated once a minute as Grafana does: pending from the first time it is wrong, firing after ``for``."""

    engine: Engine
    uid: str
    pending: dict[tuple[str, ...], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rule = rules(self.engine.dialect.name)[self.uid]
        query, judgement = self.rule["data"]
        self.window_s: int = query["relativeTimeRange"]["from"]
        self.sql: str = query["model"].get("rawSql") or query["model"]["queryText"]
        evaluator = judgement["model"]["conditions"][0]["evaluator"]
        bound = evaluator["params"][0]
        self.is_wrong: Callable[[float], bool] = {
            "gt": lambda value: value > bound, "lt": lambda value: value < bound
        }[evaluator["type"]]  # fmt: skip

    def values(self, ts: int) -> dict[tuple[str, ...], float]:
        """Return the value of each instance at a time."""
        request = Request(Range(ts - self.window_s, ts))
        answer = ask(self.engine, on_server(self.sql, request, self.engine.dialect.name))
        *labels, value = answer.columns
        assert value == "value"
        assert labels, "an instance has a name"
        found = {}
        for row in answer.rows:
            assert all(isinstance(text, str) for text in row[:-1]), "labels are text"
            assert is_number(row[-1]), "Grafana takes no row without a number"
            assert row[:-1] not in found
            found[row[:-1]] = float(row[-1])
        return found

    def firing(self, ts: int) -> set[tuple[str, ...]]:
        """Evaluate it; return the labels of the instances that fire."""
        wrong = {labels for labels, value in self.values(ts).items() if self.is_wrong(value)}
        self.pending = {labels: self.pending.get(labels, ts) for labels in wrong}
        return {labels for labels, since in self.pending.items() if ts - since >= seconds(self.rule["for"])}

    def over(self, begin: int, minutes: int) -> set[tuple[str, ...]]:
        """Evaluate it each minute from ``begin`` on; return what fires at the end."""
        fires: set[tuple[str, ...]] = set()
        for minute in range(minutes):
            fires = self.firing(begin + 60 * minute)
        return fires


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """A connection to a database with the nodes ``a`` and ``b``, which writes at once."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as opened:
        node = {
            "port": 22, "conn_id": "evc_nodes", "groups": [], "labels": {}, "thermal_unit": "millidegree_celsius",
            "status": "up", "registered_ts": START - DAY_S,
        }  # fmt: skip
        opened.execute(
            insert(tables.nodes),
            [{**node, "id": place, "name": name, "host": name} for place, name in enumerate("ab", 1)],
        )
        yield opened


def sweep(connection: Connection, begin: int, minutes: int, **of_a: Any) -> int:
    """Write what sweeps each 30 s find, of ``a`` and of ``b``, which is well; returns when the next would be."""
    well = {
        "up": 1, "temperature_celsius": 50.0, "throttled": 0, "memory_total_bytes": 8 * GB, "memory_available_bytes": 4 * GB,
    }  # fmt: skip
    for ts in range(begin, begin + 60 * minutes, 30):
        rows = [{**well, "ts": ts, "node_id": 1, **of_a}, {**well, "ts": ts, "node_id": 2}]
        connection.execute(insert(tables.node_samples), rows)
    return begin + 60 * minutes


def set_status(connection: Connection, node_id: int, status: str) -> None:
    connection.execute(update(tables.nodes).where(tables.nodes.c.id == node_id).values(status=status))


def test_a_node_that_is_down_fires_until_it_is_up(engine: Engine, connection: Connection) -> None:
    watch = Watch(engine, "evc-node-down")
    assert watch.over(START, 5) == set()
    set_status(connection, 1, "down")
    assert watch.over(START + 600, 2) == set(), "not before two minutes"
    assert watch.firing(START + 720) == {("a",)}
    set_status(connection, 1, "up")
    assert watch.firing(START + 780) == set()


def test_a_node_that_is_removed_fires_no_longer(engine: Engine, connection: Connection) -> None:
    watch = Watch(engine, "evc-node-down")
    set_status(connection, 1, "down")
    assert watch.over(START, 5) == {("a",)}
    connection.execute(update(tables.nodes).where(tables.nodes.c.id == 1).values(removed_ts=START))
    assert watch.firing(START + 300) == set()


@pytest.mark.parametrize(
    ("uid", "wrong"),
    [
        ("evc-node-hot", {"temperature_celsius": 83.5}),
        ("evc-node-throttled", {"throttled": 1}),
        ("evc-node-memory", {"memory_available_bytes": GB // 5}),
    ],
)
def test_what_samples_show_fires_and_ends(
    engine: Engine, connection: Connection, uid: str, wrong: dict[str, Any]
) -> None:
    watch = Watch(engine, uid)
    end = sweep(connection, START, 10)
    assert watch.over(START + 300, 5) == set()
    worse = sweep(connection, end, 15, **wrong)
    assert watch.over(end, 15) == {("a",)}
    well = sweep(connection, worse, 10)
    assert watch.over(worse, 10) == set()
    assert watch.firing(well + DAY_S) == set(), "nothing is said of samples that are long ago"


def test_one_hot_sample_is_not_yet_hot(engine: Engine, connection: Connection) -> None:
    watch = Watch(engine, "evc-node-hot")
    sweep(connection, START, 10)
    connection.execute(
        text(f"UPDATE node_samples SET temperature_celsius = 90 WHERE node_id = 1 AND ts = {START + 300}")
    )
    assert watch.over(START, 10) == set()


def test_a_node_without_a_sensor_is_not_judged(engine: Engine, connection: Connection) -> None:
    sweep(connection, START, 5, temperature_celsius=None, throttled=None)
    assert set(Watch(engine, "evc-node-hot").values(START + 299)) == {("b",)}
    assert set(Watch(engine, "evc-node-throttled").values(START + 299)) == {("b",)}


def read_disk(
    connection: Connection, begin: int, available: list[int], *, read_only: bool = False, mountpoint: str = "/"
) -> int:
    """Write readings of a disk of 100 GB of ``a``, each five minutes; returns when the next would be."""
    rows = [
        {
            "ts": begin + 300 * place, "node_id": 1, "mountpoint": mountpoint, "device": "/dev/sda", "filesystem": "ext4",
            "total_bytes": 100 * GB, "used_bytes": 100 * GB - left, "available_bytes": left, "read_only": read_only,
        }
        for place, left in enumerate(available)
    ]  # fmt: skip
    connection.execute(insert(tables.storage_samples), rows)
    return begin + 300 * len(available)


def test_a_disk_that_is_nearly_full_fires_until_there_is_room(engine: Engine, connection: Connection) -> None:
    watch = Watch(engine, "evc-disk-full")
    full = read_disk(connection, START, [30 * GB] * 3)
    assert watch.over(START, 15) == set()
    room = read_disk(connection, full, [8 * GB] * 4)
    assert watch.over(full, 20) == {("a", "/")}
    read_disk(connection, room, [40 * GB] * 3)
    assert watch.over(room, 15) == set()


def test_what_can_only_be_read_is_full_for_ever_and_not_wrong(engine: Engine, connection: Connection) -> None:
    read_disk(connection, START, [0] * 6, read_only=True, mountpoint="/media/cdrom")
    assert Watch(engine, "evc-disk-full").over(START + 600, 15) == set()
    assert Watch(engine, "evc-disk-fills").over(START + 600, 15) == set()


def test_a_disk_that_fills_says_when_it_will_be_full(engine: Engine, connection: Connection) -> None:
    watch = Watch(engine, "evc-disk-fills")
    falling = [40 * GB - GB // 6 * place for place in range(72)]  # 2 GB an hour for six hours
    end = read_disk(connection, START, falling)
    hours = watch.values(end)[("a", "/")]
    assert hours == pytest.approx(falling[-1] / GB / 2 - 1 / 12, abs=0.05)
    assert watch.over(end - 2400, 41) == {("a", "/")}
    read_disk(connection, end, [70 * GB] * 72)
    assert watch.over(end + 21_600 - 3600, 60) == set()


@pytest.mark.parametrize(
    "available",
    [
        [40 * GB] * 72,  # steady
        [40 * GB + GB // 10 * (place % 2) for place in range(72)],  # up and down
        [40 * GB + GB // 10 * place for place in range(72)],  # getting emptier
        [95 * GB - GB // 6 * place for place in range(72)],  # still more than half empty
        [40 * GB - GB * place for place in range(4)],  # four readings tell nothing
        [10 * GB - GB // 1000 * place for place in range(72)],  # slowly
    ],
)
def test_a_disk_that_does_not_fill_is_left_alone(engine: Engine, connection: Connection, available: list[int]) -> None:
    end = read_disk(connection, START, available)
    assert Watch(engine, "evc-disk-fills").over(end - 2400, 40) == set()


def note_sweeps(connection: Connection, begin: int, minutes: int) -> int:
    row = {"shard": 0, "duration_s": 1.0, "nodes_up": 2, "nodes_down": 0, "rows_written": 9, "missed_ticks": 0}
    times = range(begin, begin + 60 * minutes, 30)
    connection.execute(insert(tables.sweeps), [{**row, "run_id": f"r{ts}", "ts": ts} for ts in times])
    return begin + 60 * minutes


def test_no_fresh_data_fires_until_there_are_some(engine: Engine, connection: Connection) -> None:
    watch = Watch(engine, "evc-no-data")
    end = note_sweeps(connection, START, 10)
    assert watch.over(START + 60, 9) == set()
    assert watch.over(end, 6) == set(), "not yet"
    assert watch.over(end + 360, 3) == {("metrics",)}
    note_sweeps(connection, end + 600, 2)
    assert watch.firing(end + 700) == set()


def test_no_fresh_data_knows_a_fleet_that_was_never_swept_and_one_without_nodes(
    engine: Engine, connection: Connection
) -> None:
    assert Watch(engine, "evc-no-data").over(START, 5) == {("metrics",)}
    connection.execute(update(tables.nodes).values(removed_ts=START))
    assert Watch(engine, "evc-no-data").over(START, 5) == set()
    assert Watch(engine, "evc-no-data").rule["noDataState"] == "OK"


def test_a_database_that_is_away_is_no_fresh_data(engine: Engine) -> None:
    fires = {uid for uid, rule in rules(engine.dialect.name).items() if rule["execErrState"] == "Alerting"}
    assert fires == {"evc-no-data"}


@pytest.mark.parametrize(
    ("status", "fires"), [("failed", True), ("rolled_back", True), ("succeeded", False), ("aborted", False)]
)
def test_a_rollout_that_failed_fires_for_an_hour(
    engine: Engine, connection: Connection, status: str, fires: bool
) -> None:
    watch = Watch(engine, "evc-rollout-failed")
    connection.execute(
        insert(tables.rollouts),
        {
            "id": 7, "run_id": "r", "model": "reid", "repository": "reid", "digest": DIGESTS[0], "spec": {}, "waves": [1],
            "success_threshold": 90.0, "error_threshold": 20.0, "status": "running", "deadline_ts": START + DAY_S, "created_ts": START,
        },
    )  # fmt: skip
    assert watch.over(START, 5) == set()
    finish_rollout(connection, 7, status, "so it ended", START + 300)
    assert watch.over(START + 300, 3) == ({("7", "reid")} if fires else set())
    assert watch.firing(START + 300 + 3660) == set()


def print_lines(connection: Connection, begin: int, kinds: list[str], seq: int) -> None:
    common = {"run_id": 1, "node_id": 1, "model": "reid", "digest": DIGESTS[0]}
    rows = [{**common, "seq": seq + place, "ts": begin + 10 * place, "kind": kind} for place, kind in enumerate(kinds)]
    connection.execute(insert(tables.inference_results), rows)


def test_inference_errors_fire_until_lines_are_good(engine: Engine, connection: Connection) -> None:
    watch = Watch(engine, "evc-inference-errors")
    print_lines(connection, START, ["frame"] * 60, 0)
    assert watch.over(START, 10) == set()
    print_lines(connection, START + 600, ["frame", "frame", "error", "malformed"] * 15, 100)
    assert watch.over(START + 600, 10) == {("a", "reid")}
    print_lines(connection, START + 1200, ["frame"] * 120, 200)
    assert watch.over(START + 1200, 20) == set()


def test_a_few_lines_are_not_judged(engine: Engine, connection: Connection) -> None:
    print_lines(connection, START, ["error"] * 9, 0)
    assert Watch(engine, "evc-inference-errors").values(START + 100) == {}


def test_a_failed_run_fires_for_an_hour(engine: Engine, connection: Connection) -> None:
    run = {"node_id": 2, "model": "smart_farm", "digest": DIGESTS[0], "mode": "once", "started_ts": START, "lines": 0}
    connection.execute(insert(tables.inference_runs), {**run, "run_id": "r", "status": "running"})
    watch = Watch(engine, "evc-inference-failed")
    assert watch.over(START, 3) == set()
    connection.execute(update(tables.inference_runs).values(status="failed", finished_ts=START + 100))
    assert watch.over(START + 120, 2) == {("b", "smart_farm")}
    assert watch.firing(START + 4000) == set()


def test_a_registry_that_does_not_answer_fires_until_it_does(engine: Engine, connection: Connection) -> None:
    watch = Watch(engine, "evc-registry-unreachable")
    record_check(connection, "registry:5000", START, None, None)
    assert watch.over(START, 5) == set()
    record_check(connection, "registry:5000", START + 300, "does not answer", None)
    assert watch.over(START + 300, 10) == set(), "not before ten minutes"
    assert watch.firing(START + 900) == {("registry:5000",)}
    record_check(connection, "registry:5000", START + 900, None, None)
    assert watch.firing(START + 960) == set()


def test_a_registry_that_is_no_longer_looked_at_is_forgotten(engine: Engine, connection: Connection) -> None:
    record_check(connection, "old:5000", START, "does not answer", None)
    assert Watch(engine, "evc-registry-unreachable").values(START + 2 * 3600) == {}


def test_a_certificate_fires_a_month_before_its_end(engine: Engine, connection: Connection) -> None:
    watch = Watch(engine, "evc-certificate-expires")
    record_check(connection, "registry:5000", START, None, START + 31 * DAY_S)
    assert watch.over(START, 62) == set()
    record_check(connection, "registry:5000", START + 4000, None, START + 4000 + 29 * DAY_S)
    assert watch.over(START + 4000, 62) == {("registry:5000",)}
    record_check(connection, "registry:5000", START + 8000, None, START + 365 * DAY_S)
    assert watch.firing(START + 8000) == set()


def test_every_rule_was_seen_to_fire() -> None:
    """The tests above name each."""
    tested = set(re.findall(r'"(evc-[a-z-]+)"', (PROJECT / "tests/grafana/test_alerts.py").read_text()))
    assert set(UIDS_OF_RULES) <= tested


def test_rules_do_not_fail_on_an_empty_database(engine: Engine) -> None:
    for uid in UIDS_OF_RULES:
        assert Watch(engine, uid).values(START) == {}
