"""Scenario files: what they may say, what is told of a wrong one, and the reference that names every key."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from evc.errors import InputError
from evc.fleet.inputs import check_input
from evc.fleet.models import read_model
from evc.fleet.scenarios import Scenario, keys, read_scenario

FOLDER = Path(__file__).parents[2] / "include" / "scenarios"
REFERENCE = FOLDER / "reference.yaml.example"
LEAST = """\
description: Looks at pictures
model:
  name: smart_farm
inference: {}
"""


def read(text: str, name: str = "farm.yaml") -> Scenario:
    return read_scenario(f"scenarios/{name}", text.encode())


def refusal(text: str, name: str = "farm.yaml") -> str:
    with pytest.raises(InputError) as caught:
        read(text, name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def uncommented(text: str) -> str:
    """Return the reference with every optional key that it shows."""
    lines = []
    for line in text.splitlines():
        shown = re.match(r"^(\s{0,4})# (\s{0,4})([a-z_]+:(?: .*)?)$", line)
        lines.append(f"{shown[1]}{shown[2]}{shown[3]}" if shown else line)
    return "\n".join(lines)


def dotted(value: Any, before: str = "") -> dict[str, Any]:
    """Return every key below ``value``, as :func:`keys` names them."""
    found: dict[str, Any] = {}
    for name, inner in value.items():
        found[f"{before}{name}"] = inner
        if isinstance(inner, dict):
            found |= dotted(inner, f"{before}{name}.")
        if isinstance(inner, list) and inner and isinstance(inner[0], dict):
            found |= dotted(inner[0], f"{before}{name}[].")
    return found


# -- the reference ---------------------------------------------------------------------------------------------------


def test_the_reference_loads_as_it_stands() -> None:
    scenario = read_scenario(str(REFERENCE), REFERENCE.read_bytes())
    assert scenario.model.name == "smart_farm"


def test_the_reference_names_every_key_with_its_default() -> None:
    shown = dotted(yaml.safe_load(uncommented(REFERENCE.read_text())))
    known = keys()
    assert set(shown) == set(known)
    optional = set(shown) - set(dotted(yaml.safe_load(REFERENCE.read_text())))
    for name in optional - {"nodes", "identities"}:
        assert known[name].get_default(call_default_factory=True) == shown[name], name


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.name)
def test_those_that_come_with_it_fit_their_models(path: Path) -> None:
    scenario = read_scenario(path.name, path.read_bytes())
    folder = FOLDER.parent / "models" / scenario.model.name
    model = read_model("model.yaml", (folder / "model.yaml").read_bytes(), folder=scenario.model.name)
    if scenario.inference and scenario.inference.input:
        check_input(scenario.inference.input, model)
    kinds = {result.kind for result in model.results}
    assert {*scenario.results, *(rule.kind for rule in scenario.events)} <= kinds


# -- what a file may say ---------------------------------------------------------------------------------------------


def test_the_least_that_a_scenario_says() -> None:
    scenario = read(LEAST)
    assert (scenario.schedule, scenario.timezone, scenario.build, scenario.rollout) == (None, "UTC", None, None)
    assert (scenario.inference and scenario.inference.timeout_s, scenario.nodes.names) == (600, [])


@pytest.mark.parametrize(
    "more",
    [
        'schedule: "*/5 6-20 * * 1-5"\ntimezone: Asia/Seoul\n',
        'schedule: "@daily"\n',
        'nodes: {names: [edge-1], groups: [farm], labels: {site: "수원"}}\n',
        "build: {builder: build-1, platform: linux/arm64, arguments: {BASE: base/opencv}}\nrollout: {}\n",
        "events: [{kind: cover, window: 24h, falls_by: 20}, {kind: error, statistic: count, above: 3}]\n",
        "identities: {similarity_min: 0.7, speed_m_per_s: 30, reach_m: 5, forget_s: 60}\n",
        "rollout: {waves: [1, 50%, 100%], deadline: null}\nbuild: {builder: b}\n",
    ],
)
def test_what_makes_sense_comes_back_from_the_database_as_it_was(more: str) -> None:
    scenario = read(LEAST + more)
    kept = json.loads(json.dumps(scenario.model_dump(mode="json")))
    assert Scenario.model_validate(kept) == scenario


# -- what it may not -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("- a\n", "farm.yaml:1: is not a mapping"),
        (LEAST.replace("description: Looks at pictures\n", ""), "farm.yaml:1: description: is missing; allowed: what"),
        (LEAST + "schedul: x\n", "farm.yaml:5: schedul: unknown key, is schedule meant?; allowed: description, sched"),
        (LEAST + "schedule: every day\n", 'farm.yaml:5: schedule: "every day" does not fit; allowed: five fields'),
        (LEAST + 'schedule: "61 * * * *"\n', 'farm.yaml:5: schedule: "61 * * * *" does not fit; allowed: five'),
        (LEAST + 'schedule: "0 0 30 2 *"\n', 'farm.yaml:5: schedule: "0 0 30 2 *" does not fit; allowed: five'),
        (LEAST + 'schedule: "R 6 * * FRI"\n', 'farm.yaml:5: schedule: "R 6 * * FRI" does not fit; allowed: five'),
        (LEAST + "timezone: Asia/Suwon\n", 'farm.yaml:5: timezone: "Asia/Suwon" does not fit; allowed: a name of'),
        (LEAST + "timezone: ../../etc/passwd\n", 'farm.yaml:5: timezone: "../../etc/passwd" does not fit'),
        (LEAST.replace("smart_farm", "../farm"), 'farm.yaml:3: model.name: "../farm" does not fit; allowed: the name'),
        (LEAST + "rollout: {}\n", "farm.yaml:1: has a rollout, but no image to roll out; allowed: build, model.tag"),
        (LEAST.replace("inference: {}\n", ""), "farm.yaml:1: does nothing; allowed: at least one of collect, build"),
        (
            LEAST + "build: {builder: b}\nrollout:\n  waves: [50%, 1, 20%]\n",
            'farm.yaml:7: rollout.waves: waves[2]: "20%" is not more than the one before it',
        ),
        (LEAST + "nodes: {names: [a, a]}\n", 'farm.yaml:5: nodes.names: names "a" twice; allowed: each once'),
        (
            LEAST.replace("inference: {}", "collect: true") + "events: [{kind: c, statistic: count, below: 1}]\n",
            "farm.yaml:1: has an event over this run, which runs no model; allowed: inference, or a window",
        ),
        (LEAST + "events:\n  - {kind: cover}\n", "farm.yaml:6: events[0]: has no threshold, or more than one"),
        (LEAST + "events:\n  - {kind: cover, falls_by: 2}\n", "farm.yaml:6: events[0]: falls_by has nothing to fall"),
        (LEAST + "events:\n  - {kind: c, above: 1, below: 2}\n", "farm.yaml:6: events[0]: has no threshold, or more"),
        (
            LEAST + "events: [{kind: c, above: 1, window: 3651d}]\n",
            'farm.yaml:5: events[0].window: "3651d" is too long; allo',
        ),
        (LEAST + "a: &a [1]\n", "farm.yaml:5: the anchor &a"),
        (
            LEAST + "events: [{kind: c, above: 1, window: soon}]\n",
            'farm.yaml:5: events[0].window: "soon" does not fit; all',
        ),
    ],
)
def test_a_mistake_is_told_with_file_line_key_and_what_is_allowed(text: str, wrong: str) -> None:
    assert refusal(text).startswith(wrong)


@pytest.mark.parametrize("name", ["Farm.yaml", "smart-farm.yaml", "a__b.yaml", "_a.yaml", f"{'a' * 64}.yaml", ".yaml"])
def test_a_file_is_named_as_its_dag_can_be(name: str) -> None:
    assert refusal(LEAST, name).startswith(f"{name}: ")


@given(st.dictionaries(st.sampled_from(sorted(Scenario.model_fields)), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=8,
)))  # fmt: skip
def test_anything_else_is_an_input_error_too(value: dict[str, Any]) -> None:
    text = json.dumps(value, ensure_ascii=True)
    with suppress(InputError):
        read(text)
