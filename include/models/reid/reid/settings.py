"""What the environment says. Names and defaults are those of model.yaml; README.md tells what each means."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

LAYOUTS = ("corners", "yolov5", "yolov8")
Value = TypeVar("Value")


class SettingError(Exception):
    """A variable of the environment does not fit; the message names it and says what is allowed."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings.

    :param input, input_kind: ``EVC_INPUT`` and ``EVC_INPUT_KIND``; None where it is not told
    :param limit: frames at most
    :param is_continuous: whether a source that ends is opened anew, for ever
    :param detector: ``hog``, or an ONNX file whose output is read as ``layout`` says
    :param describer: ``stripes``, or an ONNX file
    :param detector_size, describer_size: width and height of their networks' input
    :param describe_every: an embedding at every so-manieth sighting of a track, the first included
    :param frame_every: every so-manieth frame is looked at
    :param missed_frames_max: a track that was not seen for more frames has ended
    :param hits_min: sightings that make a track: fewer are never printed
    :param begin_ts: of a recording's first frame, unix seconds; None: lines bear no ``ts``
    :param threads: OpenCV's; 0: as many as there are cores
    :param crops: whether lines bear a small picture of the person
    """

    input: str | None = None
    input_kind: str | None = None
    limit: int = sys.maxsize
    is_continuous: bool = False
    detector: str = "hog"
    layout: str = "corners"
    detector_size: tuple[int, int] = (300, 300)
    score_min: float = 0.5
    describer: str = "stripes"
    describer_size: tuple[int, int] = (128, 256)
    describe_every: int = 5
    frame_every: int = 1
    missed_frames_max: int = 5
    hits_min: int = 3
    begin_ts: float | None = None
    threads: int = 1
    crops: bool = False


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Return them. :raises SettingError: the first that does not fit"""
    told = _Told(environment)
    return Settings(
        input=environment.get("EVC_INPUT") or None,
        input_kind=environment.get("EVC_INPUT_KIND") or None,
        limit=told.whole("EVC_LIMIT", sys.maxsize, 1),
        is_continuous=environment.get("EVC_MODE") == "continuous",
        detector=environment.get("DETECTOR") or "hog",
        layout=told.word("DETECTOR_LAYOUT", LAYOUTS),
        detector_size=told.size("DETECTOR_SIZE", (300, 300)),
        score_min=told.number("SCORE_MIN", 0.5, 0.01, 0.99),
        describer=environment.get("DESCRIBER") or "stripes",
        describer_size=told.size("DESCRIBER_SIZE", (128, 256)),
        describe_every=told.whole("DESCRIBE_EVERY", 5, 1),
        frame_every=told.whole("FRAME_EVERY", 1, 1),
        missed_frames_max=told.whole("MISSED_FRAMES_MAX", 5, 0),
        hits_min=told.whole("HITS_MIN", 3, 1),
        begin_ts=told.number("BEGIN_TS", 0.0, 0.0, 4e9) or None,
        threads=told.whole("THREADS", 1, 0),
        crops=told.word("CROPS", ("off", "on")) == "on",
    )


class _Told:
    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def whole(self, name: str, default: int, least: int) -> int:
        return self._read(name, default, int, lambda value: value >= least, f"a whole number from {least}")

    def number(self, name: str, default: float, least: float, most: float) -> float:
        return self._read(name, default, float, lambda value: least <= value <= most, f"{least:g} to {most:g}")

    def size(self, name: str, default: tuple[int, int]) -> tuple[int, int]:
        def read(text: str) -> tuple[int, int]:
            width, height = map(int, text.split("x"))
            return width, height

        return self._read(
            name, default, read, lambda value: min(value) >= 8 and max(value) <= 4096, "WIDTHxHEIGHT, 8 to 4096 each"
        )

    def word(self, name: str, allowed: tuple[str, ...]) -> str:
        return self._read(name, allowed[0], str, lambda value: value in allowed, ", ".join(allowed))

    def _read(
        self, name: str, default: Value, kind: Callable[[str], Value], fits: Callable[[Value], bool], allowed: str
    ) -> Value:
        text = self._environment.get(name, "").strip()
        if not text:
            return default
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not fits(value):
            raise SettingError(f"{name} is {text[:60]!r}; allowed: {allowed}")
        return value
