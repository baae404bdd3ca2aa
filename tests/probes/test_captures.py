"""Every probe against captures of boards."""

from __future__ import annotations

import re

import pytest

from evc.errors import ParseError
from evc.probes import PROBES
from tests.probes.boards import CAPTURES, Capture, all_captures, check_fits, told

captures = pytest.mark.parametrize("capture", all_captures(), ids=lambda capture: f"{capture.probe}/{capture.board}")


@captures
def test_a_capture_reads_as_told(capture: Capture) -> None:
    read = PROBES[capture.probe].read
    assert capture.answer.complete
    if capture.error:
        with pytest.raises(ParseError, match=f"^{re.escape(capture.error)}$"):
            read(capture.answer, capture.before)
        return
    sample = read(capture.answer, capture.before)
    assert told(sample) == capture.sample
    if sample:
        check_fits(sample)


@captures
def test_a_capture_cut_anywhere_gives_the_same_or_nothing(capture: Capture) -> None:
    """What a cut answer says is no other number than what the whole one says, and it is known to be cut."""
    read = PROBES[capture.probe].read
    whole = capture.sample or {}
    for length in range(0, capture.stdout.rindex(b"==> ") + len(b"==> end"), 3):
        cut = type(capture)(**{**vars(capture), "stdout": capture.stdout[:length]}).answer
        assert not cut.complete
        try:
            part = told(read(cut, capture.before)) or {}
        except ParseError:
            continue
        for kind in ("columns", "facts"):
            for name, value in part.get(kind, {}).items():
                assert value is None or name == "temperature_celsius" or value == whole[kind][name]


def test_every_probe_has_a_capture() -> None:
    assert {capture.probe for capture in all_captures()} == set(PROBES)


def test_the_readme_says_where_each_capture_comes_from() -> None:
    told_of = re.findall(r"^\| (\w+/\S+) \| (?:recorded|written): ", (CAPTURES / "README.md").read_text(), re.MULTILINE)
    assert sorted(told_of) == sorted(f"{capture.probe}/{capture.board}" for capture in all_captures())


def test_no_capture_or_expectation_stands_alone() -> None:
    texts = {path.with_suffix("") for path in CAPTURES.glob("*/*.txt")}
    assert texts == {path.with_suffix("") for path in CAPTURES.glob("*/*") if path.suffix != ".txt"}
