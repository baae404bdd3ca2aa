"""The stack's files, without an engine: what every service must have, and that no variable leads nowhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers.programs import program

PROJECT = Path(__file__).parents[2]
TEXT = (PROJECT / "docker-compose.yaml").read_text()
SCRIPT = (PROJECT / "tools" / "stack.sh").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
_VARIABLE = re.compile(r"\$\{(EVC_[A-Z_]+)(:?[-?])?([^}]*)\}")


def test_a_compose_program_takes_it() -> None:
    required = {name: "x" for name, operator, _ in _VARIABLE.findall(TEXT) if operator == ":?"}
    done = subprocess.run(
        [program("docker-compose", "docker-compose"), "--project-directory", PROJECT, "config", "--services"],
        cwd=PROJECT, env={"PATH": "/usr/bin:/bin", "COMPOSE_PROFILES": "grafana", **required},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == set(SERVICES)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_is_watched_comes_back_and_gains_no_rights(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["logging"]["options"]["max-size"]
    if name == "init":
        assert service["restart"] == "no"
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"]
    # nobody is root: by the file, or by the Dockerfile
    assert str(service.get("user", "")).split(":")[0] not in {"0", "root"}
    assert "user" in service or "EVC_IMAGE" in service["image"]


def test_the_image_of_airflow_is_nobody_special() -> None:
    text = (PROJECT / "Dockerfile").read_text()
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE)[-1] == "evc"


def test_every_image_is_pinned_and_can_be_another() -> None:
    images = [service["image"] for service in SERVICES.values()]
    images.append(SERVICES["init"]["build"]["args"]["PYTHON_IMAGE"])
    for image in images:
        variable = _VARIABLE.fullmatch(image)
        assert variable, image
        assert re.fullmatch(r"[a-z/-]+:\d+\.\d+(\.\d+)?[a-z-]*", variable[3]), image
    # the Dockerfile by itself builds on the same one
    assert f"ARG PYTHON_IMAGE={_VARIABLE.fullmatch(images[-1])[3]}\n" in (PROJECT / "Dockerfile").read_text()  # type: ignore[index]


def test_a_volume_gets_its_owner_from_our_own_image() -> None:
    """The engine gives an empty volume the owner of the folder that the first image has there, or root's."""
    ours = {name: service for name, service in SERVICES.items() if "EVC_IMAGE" in service["image"]}
    mounts = {volume.split(":")[0] for service in ours.values() for volume in service["volumes"]}
    for name in SERVICES.keys() - ours.keys():
        for volume in SERVICES[name]["volumes"]:
            assert volume.split(":")[0] not in mounts or volume.endswith(":nocopy"), name


def test_no_secret_has_a_default_and_each_is_made() -> None:
    secret = re.compile(r"PASSWORD|SECRET|KEY")
    used = {name: operator for name, operator, _ in _VARIABLE.findall(TEXT) if secret.search(name)}
    assert set(used.values()) <= {":?", ""}
    listed = re.search(r"^secrets='([^']+)'", SCRIPT, re.MULTILINE)
    assert listed
    assert {f"EVC_{name}" for name in listed[1].split()} | {"EVC_FERNET_KEY"} == set(used)


def test_nothing_but_the_registry_is_published_beyond_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"api-server", "registry", "registry-pull", "grafana"}
    for name in ("api-server", "grafana"):
        assert all(port.startswith("${EVC_LISTEN:-127.0.0.1}:") for port in published[name])


def test_grafana_gets_all_that_its_provisioning_asks_for() -> None:
    grafana = SERVICES["grafana"]
    asked = {
        name
        for file in (PROJECT / "grafana" / "provisioning").glob("*/*.yaml")
        for name in re.findall(r"\$(EVC_[A-Z_]+)", file.read_text())
    }
    assert asked == {name for name in grafana["environment"] if name.startswith("EVC_")}
    mount = {target: PROJECT / source for source, target, *_ in (volume.split(":") for volume in grafana["volumes"])}
    for variable in ("GF_PATHS_PROVISIONING", "EVC_GRAFANA_DASHBOARDS"):
        path = Path(grafana["environment"][variable])
        assert (mount[str(path.parent)] / path.name).is_dir()


def test_the_docs_name_every_setting() -> None:
    docs = (PROJECT / "docs" / "stack.md").read_text()
    secrets = {"EVC_FERNET_KEY"} | {name for name, operator, _ in _VARIABLE.findall(TEXT) if operator in {":?", ""}}
    settings = {name for name, _, _ in _VARIABLE.findall(TEXT)} - secrets | {"EVC_ADDRESS"}
    assert sorted(name for name in settings if f"`{name}`" not in docs) == []


def _refused(tmp_path: Path, env: str) -> tuple[str, Path]:
    """Return what ``up`` says to a ``.env``; no engine is asked for anything before that."""
    (tmp_path / "tools").mkdir()
    shutil.copy(PROJECT / "tools" / "stack.sh", tmp_path / "tools")
    shutil.copy(PROJECT / "docker-compose.yaml", tmp_path)
    for folder in ("include", "grafana"):
        (tmp_path / folder).mkdir()
    for name in ("docker", "docker-compose"):  # neither a volume nor a container is there
        fake = tmp_path / "bin" / name
        fake.parent.mkdir(exist_ok=True)
        fake.write_text('#!/bin/sh\n[ "$1" != volume ]\n')
        fake.chmod(0o755)
    (tmp_path / ".env").write_text(env)
    done = subprocess.run(
        [tmp_path / "tools" / "stack.sh", "up"], cwd="/", capture_output=True, text=True, check=False,
        env={"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 1
    return done.stderr, tmp_path / ".env"


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ('EVC_ADMIN_PASSWORD=a"b', "stack: EVC_ADMIN_PASSWORD in .env: only letters, digits, _, - and = are allowed\n"),
        (
            "EVC_METRICS_PASSWORD=p@ss",
            "stack: EVC_METRICS_PASSWORD in .env: only letters, digits, _, - and = are allowed\n",
        ),
        ("EVC_NODES_LOGIN=a b", "stack: EVC_NODES_LOGIN in .env: only letters, digits, ., _ and - are allowed\n"),
        (
            "EVC_ADDRESS=",
            "stack: EVC_ADDRESS in .env is empty: the name or address by which nodes reach this machine\n",
        ),
        ("EVC_AIRFLOW_PORT=abc", "stack: EVC_AIRFLOW_PORT in .env: only the number of a port is allowed\n"),
        ("EVC_INCLUDE=/nope", "stack: EVC_INCLUDE in .env: /nope is no folder\n"),
        ("EVC_ADDRES=10.0.0.5", "stack: EVC_ADDRES in .env is no setting; docs/stack.md lists those that are\n"),
    ],
)
def test_a_value_that_cannot_be_is_named(tmp_path: Path, env: str, said: str) -> None:
    error, file = _refused(tmp_path, env)
    assert error == said
    # a last line without its end stays a line of its own
    assert file.read_text().splitlines()[:2] == [env, "COMPOSE_PROJECT_NAME=evc"]
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_closed_checkout_is_said(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        error, _ = _refused(tmp_path, "EVC_ADDRESS=10.0.0.5\n")
    finally:
        os.umask(before)
    assert error == "stack: ./include is closed to the users of the stack: chmod -R o+rX ./include grafana\n"


@pytest.mark.parametrize("word", ["up", "down", "evc"])
def test_without_an_engine_it_says_so_and_writes_nothing(tmp_path: Path, word: str) -> None:
    (tmp_path / "tools").mkdir()
    shutil.copy(PROJECT / "tools" / "stack.sh", tmp_path / "tools")
    if word != "up":
        (tmp_path / ".env").touch()
    before = sorted(tmp_path.iterdir())
    for name in ("docker", "docker-compose"):
        program(name, {"docker": "docker.io"}.get(name, name))
    done = subprocess.run(
        [tmp_path / "tools" / "stack.sh", word], capture_output=True, text=True, check=False, cwd="/",
        env={"PATH": os.environ["PATH"], "DOCKER_HOST": f"unix://{tmp_path}/docker.sock"},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("stack: no Docker Engine answers (")
    assert f"{tmp_path}/docker.sock" in done.stderr
    assert done.stderr.endswith("): start it, systemctl start docker, or set DOCKER_HOST\n")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("words", [(), ("start",)])
def test_another_command_says_what_is_allowed(words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [PROJECT / "tools" / "stack.sh", *words], capture_output=True, text=True, check=False, cwd=PROJECT
    )
    assert (done.returncode, done.stderr) == (
        1,
        f'stack: "{"".join(words)}" is no command; allowed: up, down, airflow ..., evc ...\n',
    )
