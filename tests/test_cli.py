"""The console, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from sqlalchemy import make_url, text

from evc import cli
from evc.building.source import read_source
from evc.fleet.nodes import make_node
from evc.store.builds import begin_build, end_build
from evc.store.database import HEAD, embedded_url, open_engine, upgrade
from evc.store.events import record_event
from evc.store.nodes import remove_node, store_node
from evc.store.rollout_nodes import begin_node, end_node, report_node
from evc.store.rollouts import NewRollout, create_rollout
from evc.store.tables import assignments, node_samples, nodes, registry_images
from evc.store.writer import Batch, write
from tests.servers.postgres import PostgresServer, running_postgres
from tests.servers.registry_faces import RegistryServer, running_registry

TS = 1_790_000_000
GIB = 2**30
SAMPLE = {
    "up": 1,
    "cpu_usage_ratio": 0.123456,
    "load1": 0.5,
    "memory_total_bytes": 8 * GIB,
    "memory_available_bytes": 6 * GIB,
    "storage_total_bytes": 100 * GIB,
    "storage_available_bytes": 25 * GIB,
    "network_receive_bytes_per_s": 2048.0,
    "temperature_celsius": 48.25,
    "uptime_s": 90061.4,
}


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database."""
    if request.param == "sqlite":
        yield embedded_url(tmp_path)
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.database() as name:
        yield server.url(name)


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.delenv(cli.DATABASE_VARIABLE, raising=False)
    monkeypatch.delenv(cli.STATE_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as zone:
        zone.setenv("TZ", "KST-9")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def fleet(database: str) -> str:
    """The URL of a database with two nodes, one of them never seen, and three samples and two events."""
    engine = open_engine(database)
    upgrade(engine)
    with engine.begin() as connection:
        place = {"address": "경기도 수원시 영통구", "groups": ["seoul", "demo"], "labels": {"site": "수원"}}
        first, _ = store_node(connection, make_node({"name": "edge-1", "host": "192.0.2.1", **place}), TS)
        store_node(connection, make_node({"name": "edge-2", "host": "192.0.2.2", "port": 2222}), TS)
        record_event(connection, first, "down", "error", "no answer", TS + 60)
        record_event(connection, first, "up", "info", "answers again", TS + 90)
    samples = [{"ts": TS + 30 * n, "node_id": first, **SAMPLE, "load1": float(n)} for n in range(3)]
    samples.append({"ts": TS + 90, "node_id": first, "up": 0})
    write(engine, Batch({"node_samples": samples}, [{"id": first, "status": "up", "last_seen_ts": TS + 60}]))
    engine.dispose()
    return database


def _json(capsys: pytest.CaptureFixture[str], *argv: str) -> list[dict[str, Any]]:
    assert cli.main([*argv, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert isinstance(rows, list)
    return rows


def _table(capsys: pytest.CaptureFixture[str], *argv: str) -> list[str]:
    assert cli.main(argv) == 0
    return capsys.readouterr().out.splitlines()


def _error(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Run a command that fails with exactly one line of error."""
    assert cli.main(argv) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("evc: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_nodes_have_every_column_in_json(fleet: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = _json(capsys, "nodes", "--database", fleet)
    assert [row["name"] for row in rows] == ["edge-1", "edge-2"]
    assert list(rows[0]) == [column.name for column in nodes.columns]
    assert rows[0]["groups"] == ["demo", "seoul"]
    assert rows[0]["labels"] == {"site": "수원"}
    assert rows[0]["last_seen_ts"] == TS + 60
    assert rows[1]["last_seen_ts"] is None


def test_nodes_are_a_table_for_people(fleet: str, capsys: pytest.CaptureFixture[str]) -> None:
    header, first, second = _table(capsys, "nodes", "--database", fleet)
    assert header.split()[:4] == ["NAME", "STATUS", "HOST", "PORT"]
    assert "경기도 수원시 영통구" in first
    assert "demo, seoul" in first
    assert first.endswith("2026-09-21T23:14:20+09:00")
    assert second.split() == ["edge-2", "unknown", "192.0.2.2", "2222", "-", "-", "-", "-", "-", "-"]


def test_samples_are_unrounded_in_json(fleet: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = _json(capsys, "samples", "edge-1", "--database", fleet)
    assert [row["ts"] for row in rows] == [TS + 90, TS + 60, TS + 30, TS]
    assert {column.name for column in node_samples.columns} <= set(rows[0])
    assert rows[1]["cpu_usage_ratio"] == pytest.approx(0.123456, abs=1e-12)
    assert rows[1]["memory_total_bytes"] == 8 * GIB
    assert rows[0]["cpu_usage_ratio"] is None


def test_samples_have_units_in_the_table(fleet: str, capsys: pytest.CaptureFixture[str]) -> None:
    header, down, newest, *_ = _table(capsys, "samples", "edge-1", "--database", fleet)
    titles = [
        "TIME",
        "STATUS",
        "CPU %",
        "LOAD1",
        "MEMORY GiB",
        "STORAGE GiB",
        "RX KiB/s",
        "TX KiB/s",
        "TEMP °C",
        "GPU %",
    ]
    assert [title for title in titles if title not in header] == []
    cells = ["2026-09-21T23:14:20+09:00", "up", "12.3", "2.0", "2.0/8.0", "75.0/100.0", "2.0", "-", "48.2", "-"]
    assert newest.split() == [*cells, "1", "day,", "1:01:01"]
    assert down.split() == ["2026-09-21T23:14:50+09:00", "down", *["-"] * 9]


def test_samples_are_limited(fleet: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(_json(capsys, "samples", "edge-1", "--limit", "2", "--database", fleet)) == 2


def test_a_node_without_samples_says_so(fleet: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["samples", "edge-2", "--database", fleet]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "no samples\n")
    assert _json(capsys, "samples", "edge-2", "--database", fleet) == []


@pytest.mark.parametrize("argv", [("samples", "nosuch"), ("events", "--node", "nosuch")])
def test_an_unknown_node_is_named(fleet: str, capsys: pytest.CaptureFixture[str], argv: tuple[str, ...]) -> None:
    assert _error(capsys, *argv, "--database", fleet) == (
        'evc: node: "nosuch" is not registered; allowed: a name that `evc nodes` lists\n'
    )


def test_events_are_chosen_by_node_and_kind(fleet: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert [row["kind"] for row in _json(capsys, "events", "--database", fleet)] == ["up", "down"]
    assert [row["kind"] for row in _json(capsys, "events", "--kind", "down", "--database", fleet)] == ["down"]
    assert [row["ts"] for row in _json(capsys, "events", "--limit", "1", "--database", fleet)] == [TS + 90]
    assert _json(capsys, "events", "--node", "edge-2", "--database", fleet) == []
    header, _, last = _table(capsys, "events", "--node", "edge-1", "--database", fleet)
    assert header.split() == ["TIME", "NODE", "SEVERITY", "KIND", "MESSAGE"]
    assert last.split() == ["2026-09-21T23:14:20+09:00", "edge-1", "error", "down", "no", "answer"]


def test_events_of_a_removed_node_are_still_shown(fleet: str, capsys: pytest.CaptureFixture[str]) -> None:
    engine = open_engine(fleet)
    with engine.begin() as connection:
        remove_node(connection, "edge-1", TS + 120)
    engine.dispose()
    assert len(_json(capsys, "events", "--node", "edge-1", "--database", fleet)) == 2
    assert "edge-1" in _error(capsys, "samples", "edge-1", "--database", fleet)


def test_nothing_from_the_database_reaches_the_terminal_raw(fleet: str, capsys: pytest.CaptureFixture[str]) -> None:
    engine = open_engine(fleet)
    with engine.begin() as connection:
        hostile = "\x1b[2J\x07\u202e[red]x[/red]\x9b1m\n한글"
        connection.execute(nodes.update().where(nodes.c.name == "edge-1").values(address=hostile))
    engine.dispose()
    _, first, _ = _table(capsys, "nodes", "--database", fleet)
    assert r"\u001b[2J\u0007\u202e[red]x[/red]\u009b1m\n한글" in first
    assert cli.main(["nodes", "--json", "--database", fleet]) == 0
    raw = capsys.readouterr().out
    assert all(c == "\n" or c.isprintable() for c in raw)
    assert json.loads(raw)[0]["address"] == hostile


def test_upgrade_makes_the_tables_once(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _table(capsys, "db", "upgrade", "--database", database) == [
        f"metrics database: upgraded from nothing to {HEAD}"
    ]
    assert _table(capsys, "db", "upgrade", "--database", database) == [f"metrics database: at {HEAD} already"]
    assert _json(capsys, "db", "upgrade", "--database", database) == [{"from": HEAD, "to": HEAD}]
    assert _json(capsys, "nodes", "--database", database) == []


def test_a_reader_gets_a_password_once_or_brings_its_own(
    postgres: PostgresServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgres.database() as name:
        url = postgres.url(name)
        assert cli.main(["db", "upgrade", "--database", url]) == 0
        capsys.readouterr()
        made = _json(capsys, "db", "reader", "grafana", "--database", url)
        monkeypatch.setattr("sys.stdin", io.StringIO("its own\n"))
        own = _table(capsys, "db", "reader", "grafana", "--password-stdin", "--database", url)
        assert own == ["grafana may read the metrics database"]
        for password, works in ((made[0]["password"], False), ("its own", True)):
            as_reader = make_url(url).set(username="grafana", password=password)
            code = cli.main(["nodes", "--database", as_reader.render_as_string(hide_password=False)])
            assert (code == 0) is works
        capsys.readouterr()
        monkeypatch.setattr("sys.stdin", io.StringIO(""))
        assert "no password came" in _error(capsys, "db", "reader", "grafana", "--password-stdin", "--database", url)


def test_a_database_of_a_newer_version_is_refused(fleet: str, capsys: pytest.CaptureFixture[str]) -> None:
    engine = open_engine(fleet)
    with engine.begin() as connection:
        connection.execute(text("UPDATE evc_schema SET version_num = '9999'"))
    engine.dispose()
    for command in (["nodes"], ["db", "upgrade"]):
        assert "newer" in _error(capsys, *command, "--database", fleet)


def test_a_database_without_tables_says_what_to_run(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "evc db upgrade" in _error(capsys, "nodes", "--database", database)


def test_a_password_is_never_shown(postgres: PostgresServer, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = f"postgres://evc:hunter2@127.0.0.1:{postgres.port}/postgres"
    for url in (wrong, "postgres://evc:hunter2@127.0.0.1:99999/x", "mysql://evc:hunter2@x/y", "evc:hunter2@x"):
        assert "hunter2" not in _error(capsys, "nodes", "--database", url)


def test_the_environment_names_the_database(
    fleet: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cli.DATABASE_VARIABLE, fleet)
    assert len(_json(capsys, "nodes")) == 2


def test_the_embedded_database_is_the_default(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = _error(capsys, "nodes")
    assert str(tmp_path / ".evc") in missing
    assert "--database" in missing
    assert cli.DATABASE_VARIABLE in missing
    assert not (tmp_path / ".evc").exists()
    assert _table(capsys, "db", "upgrade")
    assert (tmp_path / ".evc" / "metrics.db").is_file()
    assert (tmp_path / ".evc").stat().st_mode & 0o777 == 0o700
    assert _json(capsys, "nodes") == []
    monkeypatch.setenv(cli.STATE_VARIABLE, str(tmp_path / "other"))
    assert str(tmp_path / "other") in _error(capsys, "nodes")


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("nosuch",),
        ("samples",),
        ("samples", "a", "--limit", "0"),
        ("samples", "a", "--limit", "-1"),
        ("samples", "a", "--limit", "1e3"),
        ("samples", "a", "--limit", "²"),
        ("events", "--limit", "99999999999"),
        ("db",),
        ("nodes", "extra"),
    ],
)
def test_a_wrong_command_line_is_2(argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    assert ended.value.code == 2
    assert "usage: evc" in capsys.readouterr().err


def _console(*argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
    evc = Path(sys.executable).with_name("evc")
    return subprocess.run([evc, *argv], capture_output=True, text=True, timeout=60, check=False, **options)


def test_the_console_script_is_installed(tmp_path: Path) -> None:
    assert _console("--help").stdout.startswith("usage: evc")
    assert _console("nodes", cwd=tmp_path).returncode == 1
    assert _console("nosuch").returncode == 2
    assert _console("--version").stdout == f"evc {metadata.version('edge-vision-cluster')}\n"


def test_no_command_imports_airflow(tmp_path: Path) -> None:
    script = (
        "import sys; from evc.cli import main; codes = [main(['db', 'upgrade']), main(['nodes']), main(['events'])]; "
        "print(codes, [name for name in sys.modules if name.partition('.')[0] == 'airflow'])"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert ran.stdout.splitlines()[-1] == "[0, 0, 0] []"


def test_help_imports_neither_database_nor_tables() -> None:
    script = "import sys, evc.cli; print({'sqlalchemy', 'rich', 'alembic'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "set()\n"
    )


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    engine = open_engine(embedded_url(tmp_path))
    upgrade(engine)
    with engine.begin() as connection:
        node_id, _ = store_node(connection, make_node({"name": "edge-1", "host": "192.0.2.1"}), TS)
    write(engine, Batch({"node_samples": [{"ts": TS + n, "node_id": node_id, "up": 1} for n in range(5000)]}))
    engine.dispose()
    command = f"'{Path(sys.executable).with_name('evc')}' samples edge-1 --json --limit 5000 | head -n 1"
    environment = {**os.environ, cli.STATE_VARIABLE: str(tmp_path)}
    ran = subprocess.run(
        ["/bin/sh", "-c", command], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert (ran.stdout, ran.stderr) == ("[\n", "")


def test_a_full_disk_is_said(fleet: str) -> None:
    with Path("/dev/full").open("w") as full:
        for argv in (["nodes"], ["nodes", "--json"]):
            command = [str(Path(sys.executable).with_name("evc")), *argv, "--database", fleet]
            ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
            assert (ran.returncode, ran.stderr) == (1, "evc: standard output: No space left on device\n")


def test_an_ascii_output_gets_escapes(fleet: str) -> None:
    ran = _console("nodes", "--database", fleet, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert ran.returncode == 0, ran.stderr
    assert r"\uacbd\uae30\ub3c4" in ran.stdout


def test_on_a_terminal_lines_fit(fleet: str) -> None:
    ours, its = pty.openpty()
    environment = {**os.environ, "COLUMNS": "100", "TERM": "dumb"}
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        evc = Path(sys.executable).with_name("evc")
        ran = subprocess.run([evc, "nodes", "--database", fleet], stdout=its, env=environment, check=True, timeout=60)
        os.close(its)
        lines = terminal.read(65536).decode().splitlines()
    assert ran.returncode == 0
    assert any("edge-1" in line for line in lines)
    assert max(len(line) for line in lines) <= 100


@pytest.fixture
def rollout(fleet: str) -> str:
    """The URL of a database with a roll-out that goes on: one node has it, one waits."""
    engine = open_engine(fleet)
    new = NewRollout(
        run_id="manual__1", model="reid", repository="reid", digest=f"sha256:{'a' * 64}", tag="1.0", spec={},
        layers=None, waves=[1, "100%"], success_threshold=90.0, error_threshold=10.0, deadline_ts=TS + 3600,
    )  # fmt: skip
    with engine.begin() as connection:
        made, _ = create_rollout(connection, new, [[1], [2]], TS)
        begin_node(connection, made.id, 1, TS)
        report_node(connection, made.id, 1, "pulling", bytes_done=5_000_000, bytes_total=10_000_000)
        end_node(connection, made.id, 1, "succeeded", TS + 9)
    engine.dispose()
    return fleet


def test_roll_outs_and_their_nodes(rollout: str, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = _json(capsys, "rollouts", "--database", rollout)
    assert (row["nodes"], row["succeeded"], row["failed"], row["pending"]) == (2, 1, 0, 0)
    assert row["waves"] == [1, "100%"]
    header, line = _table(capsys, "rollouts", "--database", rollout)
    assert header.split()[:5] == ["ID", "MODEL", "TAG", "STATUS", "ASKED"]
    assert line.split()[:9] == ["1", "reid", "1.0", "running", "-", "2", "1", "0", "0"]
    _, first, second = _table(capsys, "rollouts", "nodes", "1", "--database", rollout)
    assert first.split()[:5] == ["edge-1", "1", "succeeded", "5.0", "10.0"]
    assert second.split()[:4] == ["edge-2", "2", "waiting", "-"]


def test_a_roll_out_is_paused_resumed_and_aborted(rollout: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _table(capsys, "rollouts", "pause", "1", "--database", rollout) == [
        "roll-out 1 of reid:1.0: pauses: no further node begins, those at work end"
    ]
    assert _json(capsys, "rollouts", "--database", rollout)[0]["command"] == "pause"
    assert _table(capsys, "rollouts", "resume", "1", "--database", rollout) == ["roll-out 1 of reid:1.0: goes on"]
    (done,) = _json(capsys, "rollouts", "abort", "1", "--database", rollout)
    assert (done["rollout"], done["action"]) == (1, "abort")
    (row,) = _json(capsys, "rollouts", "--database", rollout)
    assert (row["status"], row["message"]) == ("aborted", "aborted by request")
    assert [row["status"] for row in _json(capsys, "rollouts", "nodes", "1", "--database", rollout)] == [
        "succeeded",
        "aborted",
    ]
    assert "has ended: aborted" in _error(capsys, "rollouts", "pause", "1", "--database", rollout)


def test_an_action_on_a_roll_out_needs_one_that_is_there(rollout: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "an action needs the id of a roll-out" in _error(capsys, "rollouts", "abort", "--database", rollout)
    assert "there is no roll-out 9" in _error(capsys, "rollouts", "abort", "9", "--database", rollout)
    assert "there is no roll-out 9" in _error(capsys, "rollouts", "nodes", "9", "--database", rollout)


# -- scenarios -------------------------------------------------------------------------------------------------------


def test_a_scenario_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "farm.yaml", tmp_path / "my_farm.yaml"
    good.write_text("description: x\nmodel: {name: farm}\ninference: {}\n")
    bad.write_text("description: x\nmodel: {name: farm}\ninferenc: {}\n")
    assert cli.main(["scenario", "check", str(good)]) == 0
    assert capsys.readouterr().out == f"{good}: fits: scenario_farm: inference\n"
    assert cli.main(["scenario", "check", "--json", str(good)]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows == [{"file": str(good), "dag_id": "scenario_farm", "steps": ["inference"]}]
    assert cli.main(["scenario", "check", str(good), str(bad)]) == 1
    assert capsys.readouterr().err.startswith("evc: my_farm.yaml:3: inferenc: unknown key, is inference meant?; ")
    assert cli.main(["scenario", "check", str(tmp_path)]) == 1
    assert (
        capsys.readouterr().err == f"evc: {tmp_path}: can't be read: Is a directory; allowed: a scenario, a YAML file\n"
    )


def test_what_a_run_would_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(cli.REGISTRY_CONNECTION_VARIABLE, raising=False)
    monkeypatch.delenv(cli.REGISTRY_VARIABLE, raising=False)
    url = embedded_url(tmp_path)
    upgrade(open_engine(url))
    with open_engine(url).begin() as connection:
        for name, site in (("a", "north"), ("b", "north"), ("c", "south")):
            store_node(connection, make_node({"name": name, "host": f"{name}.test", "labels": {"site": site}}), TS)
        image = {"repository": "farm", "tag": "1.0", "digest": f"sha256:{'a' * 64}"}
        connection.execute(registry_images.insert().values(**image, first_seen_ts=TS, last_seen_ts=TS))
    (tmp_path / "scenarios").mkdir()
    file = tmp_path / "scenarios" / "farm.yaml"
    file.write_text(
        'description: x\nmodel: {name: farm, tag: "1.0"}\nnodes: {labels: {site: north}}\n'
        'rollout: {waves: [1, "100%"]}\ninference: {input: /srv/pictures}\n'
    )
    assert cli.main(["scenario", "plan", str(file), "--database", url]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "nodes: 2: a, b",
        f"image: farm:1.0, sha256:{'a' * 64}",
        ANY,
        "wave 1: 1: a",
        "wave 2: 1: b",
        "have it already: none",
        "inference: /srv/pictures",
    ]
    assert cli.main(["scenario", "plan", "--json", str(file), "--database", url]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["waves"], row["build"]) == ([["a"], ["b"]], None)
    assert (row["registry"], row["registry_ts"]) == (None, TS)
    assert row["registry_why"].startswith("connection evc_registry: is not defined; allowed: the variable AIRFLOW_CONN")

    file.write_text(file.read_text().replace("1.0", "2.0"))
    assert cli.main(["scenario", "plan", str(file), "--database", url]) == 1
    assert capsys.readouterr().err.startswith(
        "evc: farm:2.0: sync_registry saw 1.0; trigger it, or build_model; registry not asked: connection evc_registry"
    )

    model = tmp_path / "models" / "farm"
    model.mkdir(parents=True)
    (model / "Dockerfile").write_text("FROM scratch\n")
    (model / "model.yaml").write_text(
        'name: farm\ndescription: x\ntask: farm\nversion: "3.0"\ninputs: [folder]\nresults: [{kind: cover}]\n'
    )
    file.write_text("description: x\nmodel: {name: farm}\nbuild: {builder: b}\n")
    assert cli.main(["scenario", "plan", str(file), "--database", url]) == 0
    out = capsys.readouterr().out
    monkeypatch.chdir(file.parent)
    assert cli.main(["scenario", "plan", file.name, "--database", url]) == 0
    assert capsys.readouterr().out == out
    assert "build: 2 files, 0.0 MB, sha256:" in out
    assert "\nimage: farm:3.0\n" in out


@pytest.fixture
def farm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scenario that rolls out farm:1.0 to nodes a and b, an embedded database, an image that sync_registry saw."""
    monkeypatch.setenv(cli.STATE_VARIABLE, str(tmp_path))
    for variable in (cli.DATABASE_VARIABLE, cli.REGISTRY_VARIABLE, cli.REGISTRY_CONNECTION_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    engine = open_engine(embedded_url(tmp_path))
    upgrade(engine)
    with engine.begin() as connection:
        for name in ("a", "b"):
            store_node(connection, make_node({"name": name, "host": f"{name}.test"}), TS)
        connection.execute(nodes.update().values(arch="aarch64"))
        image = {"repository": "farm", "tag": "1.0", "digest": f"sha256:{'a' * 64}"}
        connection.execute(registry_images.insert().values(**image, first_seen_ts=TS, last_seen_ts=time.time() - 90))
    (tmp_path / "scenarios").mkdir()
    file = tmp_path / "scenarios" / "farm.yaml"
    file.write_text('description: x\nmodel: {name: farm, tag: "1.0"}\nrollout: {waves: ["100%"]}\n')
    return file


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RegistryServer]:
    """In the state folder, where ``evc registry init`` makes it."""
    with running_registry(tmp_path / "registry") as server:
        yield server


def planned(capsys: pytest.CaptureFixture[str], file: Path, *options: str) -> dict[str, Any]:
    """Return what the plan says, by what stands before the colon."""
    assert cli.main(["scenario", "plan", str(file), *options]) == 0, capsys.readouterr().err
    return dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())


def test_a_plan_asks_the_registry_which_image_it_is_now(
    farm: Path, registry: RegistryServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = registry.push("farm", "1.0")
    address, password = registry.address(registry.folder.read_write), registry.connection["password"]
    said = planned(capsys, farm)  # by connection.json in the state folder
    assert (said["image"], said["registry"]) == (f"farm:1.0, {first}", f"{address}, asked now")

    second = registry.push("farm", "1.0")
    uri = f"docker://evc:{password}@{address}?ca_path={registry.folder.ca_file}"
    as_json = json.dumps(registry.connection)
    registry.folder.connection_file.unlink()
    for value in (uri, as_json):
        monkeypatch.setenv(cli.REGISTRY_CONNECTION_VARIABLE, value)
        assert planned(capsys, farm)["image"] == f"farm:1.0, {second}"
    assert cli.main(["scenario", "plan", "--json", str(farm)]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["digest"], row["registry"], row["registry_why"], row["registry_ts"]) == (second, address, None, None)

    farm.write_text(farm.read_text().replace("1.0", "2.0"))
    assert cli.main(["scenario", "plan", str(farm)]) == 1
    assert capsys.readouterr().err == f"evc: registry {address}: farm:2.0: there is none; farm has: 1.0\n"
    farm.write_text(f'description: x\nmodel: {{name: farm, tag: "1.0", digest: "{first}"}}\nrollout: {{}}\n')
    assert cli.main(["scenario", "plan", str(farm)]) == 1
    assert capsys.readouterr().err.startswith(f"evc: tag and digest: farm:1.0 is {second}; allowed: one of them")


def test_where_the_registry_can_not_be_asked_the_plan_says_so_and_how_old_its_knowledge_is(
    farm: Path, registry: RegistryServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.push("farm", "1.0")
    seen = f"farm:1.0, sha256:{'a' * 64}"
    old = re.compile(r"not asked; as sync_registry saw it 0:01:(?:2|3|4)\d ago, [0-9T:+-]+: ")
    address, password = registry.address(registry.folder.read_write), str(registry.connection["password"])
    good = registry.connection

    def fallback(because: str, *options: str) -> None:
        said = planned(capsys, farm, *options)
        assert said["image"] == seen
        why = old.sub("", said["registry"])
        assert why != said["registry"]
        assert because in why
        assert password not in why

    monkeypatch.setenv(cli.REGISTRY_CONNECTION_VARIABLE, json.dumps({**good, "password": "wrong"}))
    fallback(f"registry {address}: ")
    monkeypatch.setenv(cli.REGISTRY_CONNECTION_VARIABLE, json.dumps({**good, "extra": {"ca_path": "/nowhere"}}))
    fallback("ca_path: /nowhere: No such file or directory")
    monkeypatch.setenv(cli.REGISTRY_CONNECTION_VARIABLE, f"docker://evc:{password}/@{address}")
    fallback("connection evc_registry: its host and port can't be read")
    monkeypatch.setenv(cli.REGISTRY_CONNECTION_VARIABLE, json.dumps({**good, "login": ""}))
    fallback("connection evc_registry: has no login or no password")
    monkeypatch.delenv(cli.REGISTRY_CONNECTION_VARIABLE)
    # with another database than the one beside it, the folder's registry may be another fleet's
    fallback("connection evc_registry: is not defined", "--database", embedded_url(farm.parent.parent))
    registry.stop()
    fallback(f"registry {address}: ")

    engine = open_engine(embedded_url(farm.parent.parent))
    with engine.begin() as connection:
        connection.execute(registry_images.delete())
    assert cli.main(["scenario", "plan", str(farm)]) == 1
    assert capsys.readouterr().err.startswith("evc: farm:1.0: sync_registry saw no image of it; trigger it, or build_")


def test_a_plan_that_asks_the_registry_imports_no_airflow(farm: Path, registry: RegistryServer) -> None:
    registry.push("farm", "1.0")
    script = (
        f"import sys; from evc.cli import main; code = main(['scenario', 'plan', {str(farm)!r}]); "
        "print(code, [name for name in sys.modules if name.partition('.')[0] == 'airflow'])"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "0 []"


def test_a_plan_says_whether_anything_would_be_built(
    farm: Path, registry: RegistryServer, capsys: pytest.CaptureFixture[str]
) -> None:
    models = farm.parent.parent / "models"
    (models / "farm").mkdir(parents=True)
    (models / "farm" / "Dockerfile").write_text("FROM scratch\n")
    (models / "farm" / "model.yaml").write_text(
        'name: farm\ndescription: x\ntask: farm\nversion: "3.0"\ninputs: [folder]\nresults: [{kind: cover}]\n'
        "architectures: [arm64]\n"
    )
    farm.write_text("description: x\nmodel: {name: farm}\nbuild: {builder: b}\n")
    digest = registry.push("farm", "3.0")
    said = planned(capsys, farm)
    assert said["build"].endswith(", on b for linux/arm64: no build of this source with these arguments is known")
    assert said["image"] == "farm:3.0"
    assert "registry" not in said  # it was not needed

    source = read_source(models, "farm")
    row = {
        "model": "farm", "version": "3.0", "repository": "farm", "tag": "3.0", "platform": "linux/arm64",
        "builder_id": 2, "source_revision": source.revision, "spec": source.model.model_dump(mode="json"),
    }  # fmt: skip
    engine = open_engine(embedded_url(farm.parent.parent))
    with engine.begin() as connection:
        begin_build(connection, "manual__1", row, TS)
        end_build(connection, "manual__1", "succeeded", TS, digest=digest, size_bytes=1)
    said = planned(capsys, farm)
    assert said["build"].startswith("nothing, unchanged: 2 files, ")
    assert said["image"] == f"farm:3.0, {digest}"
    registry.push("farm", "3.0")  # the tag leads elsewhere: a run builds anew
    assert planned(capsys, farm)["build"].endswith("farm:3.0 of this source is in the registry no more")

    farm.write_text(farm.read_text().replace("b}", "b, arguments: {A: x}}"))
    assert planned(capsys, farm)["build"].endswith("no build of this source with these arguments is known")
    farm.write_text("description: x\nmodel: {name: farm}\nbuild: {builder: b, platform: linux/amd64}\n")
    assert cli.main(["scenario", "plan", str(farm)]) == 1
    assert capsys.readouterr().err.startswith("evc: build.platform: the model is not made for amd64; allowed: its arch")
    farm.write_text("description: x\nmodel: {name: farm}\nbuild: {builder: c}\n")
    assert cli.main(["scenario", "plan", str(farm)]) == 1
    assert capsys.readouterr().err == 'evc: build.builder: "c" is not registered; allowed: a registered node: a, b\n'


def test_a_plan_of_what_only_runs_the_model_names_the_nodes_on_which_it_is_deployed(
    farm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    farm.write_text("description: x\nmodel: {name: farm}\ninference: {}\n")
    assert cli.main(["scenario", "plan", str(farm)]) == 1
    assert capsys.readouterr().err == (
        'evc: model: "farm" is deployed on no node; allowed: deploy_model first, or name nodes\n'
    )
    row = {"model": "farm", "repository": "farm", "digest": f"sha256:{'a' * 64}", "spec": {}, "ts": TS}
    with open_engine(embedded_url(farm.parent.parent)).begin() as connection:
        connection.execute(assignments.insert().values(**row, node_id=2, status="running"))
    said = planned(capsys, farm)
    assert (said["nodes"], said["image"]) == ("1: b", "what is deployed on each node")
    farm.write_text(farm.read_text() + "nodes: {names: [a, b]}\n")
    assert cli.main(["scenario", "plan", str(farm)]) == 1
    assert capsys.readouterr().err == (
        'evc: nodes: "farm" is not deployed on a; allowed: deploy_model first, or name a tag or digest\n'
    )
