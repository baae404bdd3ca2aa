"""Preflight: each refusal says what was measured, what is needed and what to do; a fit node is refused nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evc.fleet.models import Model
from evc.fleet.preflight import (
    GPU_DEVICES,
    Facts,
    Refusal,
    architecture_of,
    check,
    lookup_refusal,
    missing_bytes,
    needed_bytes,
    paths_to_ask,
)
from evc.fleet.progress import Layer
from tests.fleet.reid import model

FIT = Facts(
    free_bytes=4_000_000_000,
    free_path="/var/lib/docker",
    engine_version="20.10.24",
    api_version=(1, 41),
    architecture="amd64",
    cpus=4,
    memory_bytes=8_000_000_000,
    runtimes=frozenset({"runc"}),
    clock_skew_s=-2.5,
    temperature_celsius=61.0,
    platforms=[("linux", "amd64"), ("linux", "arm64")],
)


def refused(facts: Facts, it: Model | None = None, pull_bytes: int | None = 1_000_000_000) -> list[Refusal]:
    return check(facts, it or model(), pull_bytes)


def only(facts: Facts, it: Model | None = None, pull_bytes: int | None = 1_000_000_000) -> Refusal:
    (refusal,) = refused(facts, it, pull_bytes)
    return refusal


def test_a_fit_node_is_refused_nothing() -> None:
    assert refused(FIT) == []


def test_what_can_t_be_told_refuses_nothing() -> None:
    assert refused(Facts(), model(devices=["/dev/video0"], runtime="nvidia", resources={"gpu": True}), None) == []


@pytest.mark.parametrize(
    ("facts", "check_name", "words"),
    [
        (
            {"free_bytes": 3_999_999_999},
            "disk",
            "disk: 4000.0 MB free in /var/lib/docker; needed: 4000.0 MB, 2 times the image (1000.0 MB to pull, "
            "2000.0 MB unpacked); free some: docker system df on the node tells what takes it",
        ),
        ({"api_version": (1, 40)}, "engine", "Docker 20.10.24 speaks API 1.40; needed: API 1.41"),
        ({"api_version": (0, 0)}, "engine", "speaks API 0.0"),
        ({"clock_skew_s": 301.0}, "clock", "clock: 301 s ahead of ours; needed: 300 s at most"),
        ({"clock_skew_s": -86400.0}, "clock", "86400 s behind ours"),
        ({"temperature_celsius": 85.0}, "temperature", "temperature: 85.0 C; needed: below 85 C"),
        ({"architecture": "arm"}, "architecture", "architecture: arm; needed: amd64 or arm64"),
        ({"platforms": [("linux", "arm64")]}, "architecture", "amd64; needed: arm64, for which the image was built"),
        ({"platforms": [("windows", "amd64")]}, "architecture", "amd64; needed: linux"),
        ({"cpus": 0.5}, "cpus", "cpus: 0.5 cores; needed: 1, resources.cpus of model.yaml"),
        ({"memory_bytes": 500_000_000}, "memory", "memory: 500.0 MB; needed: 536.9 MB"),
    ],
)
def test_each_check_says_what_is_and_what_should_be(facts: dict[str, Any], check_name: str, words: str) -> None:
    refusal = only(replace(FIT, **facts))
    assert refusal.check == check_name
    assert words in str(refusal)
    assert refusal.action


def test_all_reasons_are_told_at_once() -> None:
    facts = replace(FIT, free_bytes=0, clock_skew_s=999.0, architecture="arm")
    assert [refusal.check for refusal in refused(facts)] == ["disk", "clock", "architecture"]


def test_an_image_that_is_there_needs_no_room() -> None:
    assert refused(replace(FIT, free_bytes=0), pull_bytes=0) == []


@pytest.mark.parametrize(("machine", "architecture"), [("x86_64", "amd64"), ("aarch64", "arm64"), ("armv7l", "arm")])
def test_a_machine_s_own_word_for_its_architecture_is_known(machine: str, architecture: str) -> None:
    assert architecture_of(machine) == architecture
    facts = replace(FIT, architecture=machine, platforms=[("linux", architecture)])
    assert refused(facts) == []


def test_without_platforms_model_yaml_says_what_it_was_built_for() -> None:
    facts = replace(FIT, platforms=())
    assert refused(facts) == []
    assert only(facts, model(architectures=["arm64"])).check == "architecture"


def test_devices_volumes_runtime_and_gpu_are_looked_for() -> None:
    volume = {"source": "/srv/video", "target": "/video"}
    it = model(devices=["/dev/video0"], volumes=[volume], runtime="nvidia", resources={"gpu": True})
    asked = paths_to_ask(it)
    assert asked == ["/dev/video0", "/srv/video", *GPU_DEVICES]
    nothing = replace(FIT, paths=dict.fromkeys(asked, False))
    assert [refusal.check for refusal in refused(nothing, it)] == ["runtime", "gpu", "device", "volume"]
    jetson = replace(FIT, paths={**dict.fromkeys(asked, True), "/dev/nvidiactl": False}, runtimes={"runc", "nvidia"})
    assert refused(jetson, it) == []


@pytest.mark.parametrize(
    ("words", "check_name", "may_pass"),
    [
        # Docker 20.10.24, as it said them
        ("x509: certificate signed by unknown authority", "certificate", False),
        (
            "x509: certificate has expired or is not yet valid: current time 2026-11-25T18:20:00Z is after 2026-11-24",
            "certificate",
            False,
        ),
        ('Get "https://r:5000/v2/reid/manifests/1": no basic auth credentials', "account", False),
        ("unauthorized: authentication required", "account", False),
        ("manifest unknown: manifest unknown", "image", False),
        ("dial tcp 172.29.61.1:4021: connect: connection refused", "registry", True),
        ("dial tcp: lookup no.such.test on 127.0.0.11:53: read udp 127.0.0.1:43939: i/o timeout", "registry", True),
        ("net/http: request canceled while waiting for connection (Client.Timeout exceeded)", "registry", True),
        # Docker 28
        ("tls: failed to verify certificate: x509: certificate is valid for a, not b", "certificate", False),
        ("http: server gave HTTP response to HTTPS client", "certificate", False),
        ("dial tcp: lookup r on 1.1.1.1:53: no such host", "registry", True),
        ("something that nobody has heard of", "registry", True),
    ],
)
def test_an_engine_s_words_about_a_registry_are_understood(words: str, check_name: str, may_pass: bool) -> None:
    refusal = only(replace(FIT, lookup_error=words))
    assert (refusal.check, refusal.may_pass) == (check_name, may_pass)
    assert words in str(refusal)
    assert lookup_refusal(words) == refusal


LAYERS = [Layer(f"sha256:{n}", 10**n, f"sha256:diff{n}") for n in range(4)]


def test_layers_are_shared_from_the_bottom_up() -> None:
    diff_ids = [str(layer.diff_id) for layer in LAYERS]
    assert missing_bytes(LAYERS, []) == 1111
    assert missing_bytes(LAYERS, [diff_ids[:2], diff_ids[:1]]) == 1100
    assert missing_bytes(LAYERS, [diff_ids[1:]]) == 1111  # an engine keeps a layer by all that is below it
    assert missing_bytes(LAYERS, [[*diff_ids, "sha256:more"]]) == 0
    assert missing_bytes([Layer("sha256:a", 5)], [["sha256:a"]]) == 5


@given(st.integers(0, 2**50), st.integers(0, 2**50))
def test_a_node_is_refused_exactly_where_room_is_missing(free_bytes: int, pull_bytes: int) -> None:
    refusals = refused(replace(FIT, free_bytes=free_bytes), pull_bytes=pull_bytes)
    assert bool(refusals) == (free_bytes < needed_bytes(pull_bytes))


@given(st.text(max_size=200))
def test_any_words_are_a_refusal(words: str) -> None:
    assert lookup_refusal(words).check in {"registry", "certificate", "account", "image"}
