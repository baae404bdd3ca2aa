"""Whatever a node prints, a probe returns a sample that the database takes, nothing, or one clear error."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evc.errors import ParseError
from evc.fleet.nodes import THERMAL_UNITS
from evc.probes import PROBES
from evc.probes.answer import Answer, parse_answer
from evc.probes.probe import Before, Probe, Sample
from tests.probes.boards import all_captures, check_fits

CAPTURES = all_captures()
SOME = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PIECES = [
    b"",
    b"\x00",
    b"\xff",
    b"-",
    b" ",
    b"\n",
    b":",
    b"nan",
    b"inf",
    b"-1",
    b"1e999",
    b"9" * 30,
    b"\n==> ",
    b" <==\n",
    b"%",
]
junk = (
    st.sampled_from(PIECES)
    | st.binary(max_size=8)
    | st.text(max_size=4).map(lambda text: text.encode("utf-8", "ignore"))
)
elapsed = st.floats(min_value=1e-9, max_value=1e10)


@st.composite
def mutated(draw: st.DrawFn, stdout: bytes) -> bytes:
    """Draw ``stdout`` with a few places overwritten, shortened or lengthened."""
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(stdout)))
        stdout = stdout[:place] + draw(junk) + stdout[place + draw(st.integers(0, 12)) :]
    return stdout


def counters_of(probe: str, stdout: bytes) -> Any:
    """Return what the database gives back of the counters that ``stdout`` leaves, if any."""
    sample, _ = attempt(PROBES[probe], parse_answer(stdout), None)
    return json.loads(json.dumps(sample.counters)) if sample else None


def attempt(probe: Probe, answer: Answer, before: Before | None) -> tuple[Sample | None, str]:
    """Return what the probe read, and its error or ``""``."""
    try:
        return probe.read(answer, before), ""
    except ParseError as error:
        return None, str(error)


def check_all(stdout: bytes, befores: dict[str, Before], thermal_unit: str) -> None:
    answer = parse_answer(stdout, thermal_unit)
    for name, probe in PROBES.items():
        sample, error = attempt(probe, answer, befores.get(name))
        if sample:
            check_fits(sample)
        assert error.isprintable()
        assert len(error) < 300


@SOME
@given(st.binary(max_size=2000), st.sampled_from(THERMAL_UNITS))
def test_any_bytes(stdout: bytes, thermal_unit: str) -> None:
    check_all(stdout, {}, thermal_unit)


@SOME
@given(st.data(), elapsed, st.sampled_from(THERMAL_UNITS))
def test_captures_with_a_few_bytes_changed(data: st.DataObject, elapsed_s: float, thermal_unit: str) -> None:
    capture = data.draw(st.sampled_from(CAPTURES))
    first, second = data.draw(mutated(capture.stdout)), data.draw(mutated(capture.stdout))
    counters = counters_of(capture.probe, first)
    before = {} if counters is None else {capture.probe: Before(counters, elapsed_s)}
    check_all(second, before, thermal_unit)


@SOME
@given(st.data())
def test_any_text_in_the_place_of_a_file_or_an_output(data: st.DataObject) -> None:
    text = st.text(st.characters(codec="utf-8") | st.sampled_from("0123456789 \n:-,%="), max_size=60)
    stdout = b""
    for name in ("facts", "storage", "throttling"):
        stdout += f"\n==> @{name} <==\n{data.draw(text)}\n==> @{name} 0 <==\n".encode()
    paths = sorted({path.replace("*", "0") for probe in PROBES.values() for path in probe.files})
    for path in data.draw(st.lists(st.sampled_from(paths), max_size=8)):
        stdout += f"\n==> {path} <==\n{data.draw(text)}\n".encode()
    check_all(stdout + b"\n==> end <==\n", {}, data.draw(st.sampled_from(THERMAL_UNITS)))


def test_numbers_of_every_size_in_every_place() -> None:
    """Each number of each capture, one at a time, as no real node has it."""
    for capture in CAPTURES:
        words = capture.stdout.split(b" ")
        for place in [place for place, word in enumerate(words) if word[:1].isdigit()][:60]:
            for number in (b"0", b"9" * 19, b"18446744073709551615", b"9" * 40, b"-1", b"nan", b"1e308"):
                stdout = b" ".join([*words[:place], number, *words[place + 1 :]])
                before = {} if capture.before is None else {capture.probe: capture.before}
                check_all(stdout, before, capture.thermal_unit)
