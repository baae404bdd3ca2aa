"""model.yaml."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evc.errors import InputError
from evc.fleet.images import check_repository, check_tag
from evc.fleet.models import MODEL_PATTERN, Model, check_model_name, read_model

LEAST = """\
name: reid
description: Tells people apart
task: reid
version: "1.10"
inputs: [file, camera]
results:
  - kind: person
"""
FULL = (
    LEAST
    + """\
mode: continuous
architectures: [amd64]
build:
  arguments: {BASE: "base/python:3.11"}
command: [python3, -u, run.py]
environment: {LEVEL: "3"}
volumes:
  - {source: /srv/in, target: /in}
  - {source: /srv/out, target: /out, read_only: false}
devices: [/dev/video0]
runtime: nvidia
network: none
resources: {memory_bytes: 1000000000, cpus: 2, gpu: true}
health: {command: [cat, /healthy], interval_s: 1, deadline_s: 30}
stop_grace_s: 5
"""
)


def refusal(text: str, **more: Any) -> str:
    with pytest.raises(InputError) as caught:
        read_model("reid/model.yaml", text.encode(), **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_least_that_a_model_says() -> None:
    model = read_model("x", LEAST.encode(), folder="reid")
    assert (model.version, model.mode, model.network) == ("1.10", "on_demand", "bridge")
    assert (model.resources.memory_bytes, model.health.stable_s) == (512 * 1024**2, 5.0)


@pytest.mark.parametrize("text", [LEAST, FULL])
def test_it_comes_back_from_the_database_as_it_was(text: str) -> None:
    model = read_model("x", text.encode())
    kept = json.loads(json.dumps(model.model_dump(mode="json")))
    assert Model.model_validate(kept) == model
    assert Model.model_validate_json(model.model_dump_json()) == model


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (LEAST.replace("task: reid\n", ""), "reid/model.yaml:1: task: is missing"),
        (LEAST + "mod: x\n", "reid/model.yaml:8: mod: unknown key, is mode meant?; allowed: name, description,"),
        (
            LEAST + "resources:\n  memory: 3\n",
            "reid/model.yaml:9: resources.memory: unknown key, is memory_bytes meant?; allowed: memory_bytes, cpus",
        ),
        (
            LEAST + "    scale: 1\n",
            "reid/model.yaml:8: results[0].scale: unknown key; allowed: kind, description, unit",
        ),
        (LEAST.replace('"1.10"', "1.10"), "reid/model.yaml:4: version: 1.1 is not a text"),
        (LEAST.replace('"1.10"', '"a b"'), 'reid/model.yaml:4: version: "a b" does not fit'),
        (LEAST.replace("[file, camera]", "file"), 'reid/model.yaml:5: inputs: "file" does not fit; allowed: a list'),
        (LEAST.replace("[file, camera]", "[]"), "reid/model.yaml:5: inputs: [] does not fit; allowed: at least 1 item"),
        (LEAST.replace("[file, camera]", "[file, radar]"), 'reid/model.yaml:5: inputs[1]: "radar" does not fit'),
        (LEAST.replace("[file, camera]", "[file, file]"), "reid/model.yaml:5: inputs:"),
        (LEAST + "  - kind: person\n", "reid/model.yaml:6: results:"),
        (LEAST + "resources: 3\n", "reid/model.yaml:8: resources: 3 does not fit; allowed: a mapping"),
        (LEAST + "resources: {gpu: yes}\n", 'reid/model.yaml:8: resources.gpu: "yes" does not fit; allowed: true'),
        (
            LEAST + "resources: {cpus: 0}\n",
            "reid/model.yaml:8: resources.cpus: 0 does not fit; allowed: greater than 0",
        ),
        (LEAST + "resources: {memory_bytes: 512M}\n", "reid/model.yaml:8: resources.memory_bytes:"),
        (LEAST + "resources: {memory_bytes: true}\n", "reid/model.yaml:8: resources.memory_bytes:"),
        (LEAST + "stop_grace_s: 1.5\n", "reid/model.yaml:8: stop_grace_s: 1.5 does not fit; allowed: a whole number"),
        (LEAST + "network:\n", "reid/model.yaml:8: network: null does not fit"),
        (LEAST + "environment:\n  A: 1\n", "reid/model.yaml:9: environment.A: 1 is not a text"),
        (LEAST + "environment:\n  a b: x\n", "reid/model.yaml:9: environment.a b:"),
        (LEAST + "volumes:\n  - {source: in, target: /in}\n", "reid/model.yaml:9: volumes[0].source:"),
        (LEAST + "volumes:\n  - {source: /in, target: /}\n", "reid/model.yaml:9: volumes[0].target:"),
        (LEAST + "health: {command: check.sh}\n", "reid/model.yaml:8: health.command:"),
        (LEAST + "devices: [/dev/a, /dev/a]\n", "reid/model.yaml:8: devices:"),
        ("- a\n", "reid/model.yaml:1: is not a mapping"),
        ("a: &a [1]\nb: [*a, *a]\n", "reid/model.yaml:1: the anchor &a"),
    ],
)
def test_a_refusal_names_file_line_and_key(text: str, wrong: str) -> None:
    assert refusal(text).startswith(wrong)
    assert "; allowed: " in refusal(text)


@pytest.mark.parametrize(
    "name", ["../reid", "a/b", "/reid", "..", ".", "Reid", "-a", "a_", "a___b", "a" * 64, "", "모델"]
)
def test_a_name_is_one_plain_part_of_a_path(name: str) -> None:
    assert refusal(LEAST.replace("name: reid", f'name: "{name}"')).startswith("reid/model.yaml:1: name: ")
    with pytest.raises(InputError, match="model: "):
        check_model_name("model", name)


def test_the_folder_has_the_models_name() -> None:
    assert refusal(LEAST, folder="other").startswith('reid/model.yaml:1: name: "reid" lies in folder "other"')


def test_one_line_says_where_all_problems_are() -> None:
    line = refusal(LEAST.replace("task: reid", "task: [1]") + "network: lan\nresources: {cpus: -1}\nx: 1\n")
    assert line.startswith("reid/model.yaml:3: task: ")
    assert line.endswith("also wrong: line 8 network, line 9 resources.cpus, line 10 x")


def test_what_a_key_of_the_file_holds_stays_on_one_short_line() -> None:
    assert len(refusal(LEAST + f'"a\\n{"b" * 900}": 1\n')) < 600


@given(st.from_regex(MODEL_PATTERN, fullmatch=True))
def test_every_model_name_is_a_repository(name: str) -> None:
    if len(name) <= 63:
        assert check_repository("x", check_model_name("model", name)) == name


@given(st.text(max_size=10))
def test_a_version_is_a_tag(version: str) -> None:
    try:
        model = Model.model_validate({**read_model("x", LEAST.encode()).model_dump(mode="json"), "version": version})
    except ValueError:
        with pytest.raises(InputError):
            check_tag("tag", version)
    else:
        assert check_tag("tag", model.version) == version
