"""The stack's files, without an engine: what every service must have, and that no variable leads nowhere."""

from __future__ import annotations

import re
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


def test_no_secret_has_a_default_and_each_is_made() -> None:
    secret = re.compile(r"PASSWORD|SECRET|KEY")
    used = {name: operator for name, operator, _ in _VARIABLE.findall(TEXT) if secret.search(name)}
    assert set(used.values()) <= {":?", ""}
    listed = re.search(r"for name in (.+?); do", SCRIPT.replace("\\\n", " "))
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


@pytest.mark.parametrize("words", [(), ("start",)])
def test_another_command_says_what_is_allowed(words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [PROJECT / "tools" / "stack.sh", *words], capture_output=True, text=True, check=False, cwd=PROJECT
    )
    assert (done.returncode, done.stderr) == (1, "stack: tools/stack.sh up | down | airflow ... | evc ...\n")
