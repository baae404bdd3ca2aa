"""How long a request waits for the last one."""

from __future__ import annotations

from pathlib import Path

import pytest

from evc.errors import GeocodingError
from evc.places.pace import Pace


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now, self.slept = 1_700_000_000.0, list[float]()

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 3))
        self.now += seconds


def paced(file: Path, clock: Clock) -> Pace:
    return Pace(file, 1.0, now=lambda: clock.now, sleep=clock.sleep)


def test_a_thousand_requests_take_a_thousand_seconds(tmp_path: Path) -> None:
    clock = Clock()
    for _ in range(1000):
        paced(tmp_path / "pace", clock).wait()  # each its own: what is known is in the file
    assert clock.now == pytest.approx(1_700_000_999.0, abs=0.01)


def test_who_was_slow_anyway_does_not_wait(tmp_path: Path) -> None:
    clock = Clock()
    paced(tmp_path / "pace", clock).wait()
    clock.now += 0.75
    paced(tmp_path / "pace", clock).wait()
    clock.now += 5
    paced(tmp_path / "pace", clock).wait()
    assert clock.slept == [0.25]


@pytest.mark.parametrize(
    ("content", "waits"), [("", []), ("rubbish", []), ("1800000000", [1.0]), ("inf", [1.0]), ("nan", [])]
)
def test_a_file_that_makes_no_sense_holds_nobody_up(tmp_path: Path, content: str, waits: list[float]) -> None:
    clock = Clock()
    (tmp_path / "pace").write_text(content)
    paced(tmp_path / "pace", clock).wait()
    assert clock.slept == waits
    assert (tmp_path / "pace").read_text() == f"{clock.now:.3f}"


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(GeocodingError, match="No such file or directory"):
        Pace(tmp_path / "gone" / "pace").wait()
