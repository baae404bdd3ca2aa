"""Bodies of containers: what model.yaml says, deterministic, and bounded where model.yaml says nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evc.fleet.containers import Container, Input, deployed_container, inference_container
from evc.fleet.images import Image
from evc.fleet.models import Volume
from tests.fleet.reid import model

REGISTRY = "registry.example.org:5443"
DIGEST = "sha256:" + "a" * 64
IMAGE = Image("reid", DIGEST, "1.2")


def deployed(rollout: str = "7", registry: str = REGISTRY, image: Image = IMAGE, **more: object) -> Container:
    return deployed_container(model(**more), image, registry, rollout)


def host(container: Container) -> dict[str, Any]:
    found: dict[str, Any] = container.body["HostConfig"]
    return found


def test_a_continuous_model_runs_on_within_its_limits() -> None:
    container = deployed(resources={"memory_bytes": 100_000_000, "cpus": 1.5}, stop_grace_s=3)
    assert container.body["Image"] == f"{REGISTRY}/reid@{DIGEST}"
    assert host(container)["RestartPolicy"] == {"Name": "unless-stopped"}
    assert (host(container)["Memory"], host(container)["MemorySwap"]) == (100_000_000, 100_000_000)
    assert host(container)["NanoCpus"] == 1_500_000_000
    assert host(container)["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
    assert container.body["StopTimeout"] == 3
    assert container.body["Labels"] == {
        "evc.model": "reid",
        "evc.digest": DIGEST,
        "evc.mode": "continuous",
        "evc.rollout": "7",
        "evc.config": container.config,
    }
    assert "Entrypoint" not in container.body
    assert "Healthcheck" not in container.body  # the image's own holds


def test_its_health_command_is_docker_s_health_check() -> None:
    health = {"command": ["/check", "a b"], "interval_s": 0.5, "timeout_s": 2.0, "retries": 4, "start_period_s": 30.0}
    assert deployed(health=health).body["Healthcheck"] == {
        "Test": ["CMD", "/check", "a b"],
        "Interval": 500_000_000,
        "Timeout": 2_000_000_000,
        "Retries": 4,
        "StartPeriod": 30_000_000_000,
    }


def test_a_model_that_runs_on_demand_leaves_a_record_that_the_engine_never_restarts() -> None:
    container = deployed(mode="on_demand", health={"command": ["/check"]}, command=["/detect"])
    assert host(container)["RestartPolicy"] == {"Name": "no"}
    assert container.body["Entrypoint"] == ["/check"]
    assert container.body["Healthcheck"] == {"Test": ["NONE"]}
    assert deployed(mode="on_demand", command=["/detect"]).body["Entrypoint"] == ["/detect"]


def test_devices_volumes_runtime_and_gpu_of_model_yaml() -> None:
    volumes = [{"source": "/srv/a", "target": "/a"}, {"source": "/srv/b", "target": "/b", "read_only": False}]
    container = deployed(devices=["/dev/video0"], volumes=volumes, runtime="nvidia", resources={"gpu": True})
    assert host(container)["Devices"] == [
        {"PathOnHost": "/dev/video0", "PathInContainer": "/dev/video0", "CgroupPermissions": "rwm"}
    ]
    assert host(container)["Mounts"] == [
        {"Type": "bind", "Source": "/srv/a", "Target": "/a", "ReadOnly": True},
        {"Type": "bind", "Source": "/srv/b", "Target": "/b", "ReadOnly": False},
    ]
    assert host(container)["Runtime"] == "nvidia"
    assert "DeviceRequests" not in host(container)
    assert "NVIDIA_VISIBLE_DEVICES=all" in container.body["Env"]
    card = deployed(resources={"gpu": True})
    assert host(card)["DeviceRequests"] == [{"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]]}]
    assert not any(name.startswith("NVIDIA") for name in card.body["Env"])


def test_the_environment_of_model_yaml_wins() -> None:
    container = deployed(environment={"EVC_MODE": "mine", "B": "1=2", "A": ""})
    assert container.body["Env"] == ["A=", "B=1=2", "EVC_MODE=mine", "EVC_MODEL=reid"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"rollout": "8"}),
        ({}, {"registry": "10.0.0.1:5000"}),
        ({"environment": {"A": "1", "B": "2"}}, {"environment": {"B": "2", "A": "1"}}),
        ({}, {"description": "another"}),
    ],
)
def test_the_same_content_has_the_same_name_whoever_asks(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert (deployed(**first).name, deployed(**first).config) == (deployed(**second).name, deployed(**second).config)


@pytest.mark.parametrize(
    "more",
    [
        {"image": Image("reid", "sha256:" + "b" * 64)},
        {"environment": {"A": "1"}},
        {"resources": {"cpus": 0.5}},
        {"devices": ["/dev/video0"]},
        {"command": ["/other"]},
        {"mode": "on_demand"},
        {"network": "host"},
        {"health": {"command": ["/check"]}},
    ],
)
def test_other_content_has_another_name(more: dict[str, Any]) -> None:
    assert deployed(**more).config != deployed().config
    assert deployed(**more).name != deployed().name


@pytest.mark.parametrize(
    ("looks_at", "inside", "source"),
    [
        (Input("file", "/srv/pictures/a b.jpg"), "/evc/input/a b.jpg", "/srv/pictures/a b.jpg"),
        (Input("file", "/srv/.."), "/evc/input/file", "/srv/.."),
        (Input("folder", "/srv/pictures"), "/evc/input", "/srv/pictures"),
    ],
)
def test_a_run_finds_its_file_or_folder_read_only(looks_at: Input, inside: str, source: str) -> None:
    container = inference_container(model(), IMAGE, REGISTRY, "run 1", looks_at, 5)
    assert host(container)["Mounts"] == [{"Type": "bind", "Source": source, "Target": inside, "ReadOnly": True}]
    told = dict(item.split("=", 1) for item in container.body["Env"])
    assert (told["EVC_INPUT"], told["EVC_INPUT_KIND"], told["EVC_LIMIT"]) == (inside, looks_at.kind, "5")
    assert (told["EVC_RUN"], told["EVC_MODE"]) == ("run 1", "once")


def test_a_run_gets_its_camera_once() -> None:
    camera = Input("camera", "/dev/video0")
    alone = inference_container(model(), IMAGE, REGISTRY, "1", camera)
    both = inference_container(model(devices=["/dev/video0"]), IMAGE, REGISTRY, "1", camera)
    assert host(alone)["Devices"] == host(both)["Devices"] != []
    assert "EVC_INPUT=/dev/video0" in alone.body["Env"]


def test_a_run_has_a_short_name_and_a_label_of_whatever_length() -> None:
    key = f"{'d' * 250}.{'t' * 250} {'r' * 250}"  # the longest ids that Airflow allows
    container = inference_container(model(), IMAGE, REGISTRY, key)
    assert len(container.name) < 64
    assert container.body["Labels"]["evc.run"] == key


def test_a_run_has_one_name_whatever_it_looks_at() -> None:
    one = inference_container(model(), IMAGE, REGISTRY, "run 1", Input("url", "rtsp://a/b"))
    other = inference_container(model(), IMAGE, REGISTRY, "run 1", None, 3)
    assert one.name == other.name != inference_container(model(), IMAGE, REGISTRY, "run 2").name
    assert host(one)["RestartPolicy"] == {"Name": "no"}
    assert (one.body["Labels"]["evc.mode"], one.body["Labels"]["evc.run"]) == ("once", "run 1")


@given(
    name=st.from_regex(r"[a-z0-9]{1,20}(-[a-z0-9]{1,20})?", fullmatch=True),
    run=st.text(max_size=300),
    environment=st.dictionaries(st.from_regex(r"[A-Z]{1,5}", fullmatch=True), st.text(max_size=20), max_size=4),
)
def test_names_fit_the_engine_and_bodies_are_json(name: str, run: str, environment: dict[str, str]) -> None:
    volumes = [Volume(source="/a", target="/b").model_dump()]
    it = model(name=name, environment=environment, volumes=volumes)
    image = Image(name, DIGEST)
    for container in (deployed_container(it, image, REGISTRY, run), inference_container(it, image, REGISTRY, run)):
        assert container.name.isascii()
        assert set(container.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.-")
        assert len(container.name) < 128
        assert json.loads(json.dumps(container.body)) == container.body
        assert container.body["Labels"]["evc.config"] == container.config
