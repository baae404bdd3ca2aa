"""Settings, from the environment; model.yaml holds the defaults of a deployment, the same as here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .canopy import METHODS


class WrongSetting(Exception):
    """A variable does not fit; the message names it and says what is allowed."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What docs/smart_farm.md tells of each variable."""

    method: str
    max_side_px: int
    interval_s: float
    warm_up_frames: int
    dark_below: float
    bright_above: float
    grey_below: float
    min_cover: float
    yellow_below_degrees: float
    brown_below_degrees: float
    discoloured_above: float
    state_file: Path | None
    is_time_of_file: bool


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Return the settings of an environment.

    :raises WrongSetting: one does not fit
    """
    file = environment.get("STATE_FILE", "")
    return Settings(
        method=_word(environment, "METHOD", "exg", tuple(METHODS)),
        max_side_px=int(_number(environment, "MAX_SIDE_PX", 1280, 64, 8192)),
        interval_s=_number(environment, "INTERVAL_S", 10, 0, 86_400),
        warm_up_frames=int(_number(environment, "WARM_UP_FRAMES", 5, 0, 1000)),
        dark_below=_number(environment, "DARK_BELOW", 0.06, 0, 1),
        bright_above=_number(environment, "BRIGHT_ABOVE", 0.97, 0, 1),
        grey_below=_number(environment, "GREY_BELOW", 0.02, 0, 1),
        min_cover=_number(environment, "MIN_COVER", 0.001, 0, 1),
        yellow_below_degrees=_number(environment, "YELLOW_BELOW_DEGREES", 60, 0, 180),
        brown_below_degrees=_number(environment, "BROWN_BELOW_DEGREES", 45, 0, 180),
        discoloured_above=_number(environment, "DISCOLOURED_ABOVE", 0.2, 0, 1),
        state_file=Path(file) if file else None,
        is_time_of_file=_word(environment, "PICTURE_TIME", "read", ("read", "file")) == "file",
    )


def _number(environment: Mapping[str, str], name: str, default: float, low: float, high: float) -> float:
    text = environment.get(name) or str(default)
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not low <= number <= high:
        raise WrongSetting(f"{name} is {text!r}; allowed: a number from {low:g} to {high:g}")
    return number


def _word(environment: Mapping[str, str], name: str, default: str, allowed: tuple[str, ...]) -> str:
    word = environment.get(name) or default
    if word not in allowed:
        raise WrongSetting(f"{name} is {word!r}; allowed: {', '.join(allowed)}")
    return word
