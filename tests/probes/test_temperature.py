"""Thermal zones."""

from __future__ import annotations

import pytest

from evc.probes import temperature
from evc.probes.answer import Answer
from evc.probes.probe import Sample

ZONE = "/sys/class/thermal/thermal_zone"


def read(*zones: tuple[str | None, str], thermal_unit: str = "millidegree_celsius") -> Sample:
    sections = {}
    for number, (kind, temp) in enumerate(zones):
        sections[f"{ZONE}{number}/temp"] = temp
        if kind is not None:
            sections[f"{ZONE}{number}/type"] = kind
    sample = temperature.read(Answer(sections, thermal_unit=thermal_unit), None)
    assert sample
    return sample


def celsius(sample: Sample) -> dict[object, object]:
    return {row["zone"]: row["celsius"] for row in sample.details["temperature_samples"]}


def test_millidegrees_and_tenths_of_a_kelvin() -> None:
    assert celsius(read(("cpu", "41500"))) == {"cpu": 41.5}
    assert celsius(read(("cpu", "-12000"))) == {"cpu": -12.0}
    assert celsius(read(("cpu", "3146"), thermal_unit="deci_kelvin")) == {"cpu": 41.45}


@pytest.mark.parametrize("raw", ["-256", "-256000", "-274000"])
def test_what_a_sensor_says_when_it_is_off_is_dropped(raw: str) -> None:
    sample = read(("cpu", raw), ("gpu", "40000"))
    assert celsius(sample) == {"gpu": 40.0}
    assert not sample.problems


@pytest.mark.parametrize("raw", ["", "hot", "nan", "41.5", "999999999", "18446744073709551615", "\x00"])
def test_a_zone_that_is_broken_loses_only_itself_and_says_so(raw: str) -> None:
    sample = read(("cpu", raw), ("gpu", "40000"))
    assert celsius(sample) == {"gpu": 40.0}
    assert sample.columns == {"temperature_celsius": 40.0}
    (problem,) = sample.problems
    assert problem.startswith(f"{ZONE}0/temp: ")
    assert problem.endswith(" (cpu)")


def test_no_zone_that_can_be_read_gives_no_temperature() -> None:
    sample = read(("cpu", ""))
    assert sample.columns == {"temperature_celsius": None}
    assert celsius(sample) == {}


def test_the_power_chip_of_a_jetson_is_told_only_when_it_is_hot() -> None:
    assert celsius(read(("PMIC-Die", "100000"), ("cpu", "40000"))) == {"cpu": 40.0}
    assert read(("PMIC-Die", "120000"), ("cpu", "40000")).columns == {"temperature_celsius": 120.0}


def test_zones_of_one_type_keep_their_names_when_one_of_them_fails() -> None:
    assert set(celsius(read(("acpitz", "20000"), ("acpitz", "30000")))) == {"acpitz-0", "acpitz-1"}
    assert set(celsius(read(("acpitz", ""), ("acpitz", "30000")))) == {"acpitz-1"}


def test_a_zone_without_a_type_has_a_name_too() -> None:
    assert set(celsius(read((None, "20000"), ("", "30000")))) == {"zone-0", "zone-1"}


def test_control_characters_in_the_names_of_zones_do_not_pass() -> None:
    sections = {f"{ZONE}7\x1b[2J\x00/temp": "20000", f"{ZONE}8\x07\x1b{'x' * 1000}/temp": "hot\x1b"}
    sample = temperature.read(Answer(sections), None)
    assert sample
    assert celsius(sample) == {"zone-7\ufffd[2J\ufffd": 20.0}
    (problem,) = sample.problems
    assert problem.isprintable()
    assert problem.startswith(f"{ZONE}8\ufffd\ufffdxxx")
    assert len(problem) < 200
