"""``python3 -m smart_farm``: prints result lines for the pictures of ``EVC_INPUT``; ``--self-test`` tries it out."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from itertools import islice
from typing import NoReturn

import cv2
import numpy as np

from .canopy import find_canopy
from .change import LastSeen, Seen
from .measure import Line, lines_of
from .settings import Settings, WrongSetting, read_settings
from .sources import NoSource, Shot, kind_of, shots


class _Stopped(BaseException):
    """The container is to end."""


def _stop(*_: object) -> NoReturn:
    raise _Stopped


def say(kind: str, **more: object) -> None:
    """Print one result line."""
    print(json.dumps({"kind": kind, **more}, separators=(",", ":")), flush=True)


def look(shot: Shot, frame: int, last: LastSeen, settings: Settings) -> bool:
    """Print the lines of one picture; returns whether it could be read."""
    begun = time.monotonic()
    ts = shot.ts if shot.is_live or settings.is_time_of_file else None
    bears = {"frame": frame, **({"file": shot.name} if shot.name else {}), **({"ts": round(ts, 3)} if ts else {})}
    if shot.picture is None:
        say("error", **bears, message=shot.problem)
        return False
    lines = list(lines_of(shot.picture, settings))
    lines += _change(lines, ts, last)
    latency_ms = (time.monotonic() - begun) * 1000
    for line in lines:
        if "value" in line:
            line["value"] = round(line["value"], 5)
        say(**{**line, **bears})
    if lines[0]["kind"] != "error":
        say("frame", **bears, latency_ms=round(latency_ms, 3))
    return True


def _change(lines: list[Line], ts: float | None, last: LastSeen) -> list[Line]:
    if lines[0]["kind"] != "canopy_cover":
        return []
    seen = Seen(ts, lines[0]["value"])
    try:
        before = last.replace(seen)
    except OSError as error:
        return [{"kind": "error", "label": "state", "message": f"STATE_FILE can't be written: {error.strerror}"}]
    if before is None:
        return []
    line: Line = {"kind": "change", "value": seen.cover - before.cover, "cover_before": round(before.cover, 5)}
    if seen.ts is not None and before.ts is not None:
        line["since_s"] = round(seen.ts - before.ts, 3)
    return [line]


def run(given: str, kind: str, limit: int | None, settings: Settings) -> int:
    """Look at up to ``limit`` pictures; returns the exit status: 1 where none could be read."""
    begun, frames, good, status = time.monotonic(), 0, 0, 0
    last = LastSeen(given, settings.state_file)
    try:
        for shot in islice(shots(given, kind, settings.interval_s, settings.warm_up_frames), limit):
            good += look(shot, frames, last, settings)
            frames += 1
        status = 0 if good or not frames else 1
    except _Stopped:
        pass
    except NoSource as error:
        say("error", message=str(error))
        status = 1 if frames else 2
    say("summary", frames=frames, duration_s=max(round(time.monotonic() - begun, 3), 0.001))
    return status


def self_test() -> int:
    """Return 0 where a picture that is known gives what is known of it."""
    picture = np.full((64, 64, 3), (70, 90, 110), np.uint8)  # soil
    picture[:, :32] = (50, 160, 60)
    return 0 if abs(find_canopy(picture).cover - 0.5) < 0.02 else 1


def main() -> int:
    """Do what the environment says."""
    cv2.setNumThreads(1)  # what the container may use, not what the node has
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    signal.signal(signal.SIGTERM, _stop)
    given = os.environ.get("EVC_INPUT", "")
    try:
        settings = read_settings(os.environ)
    except WrongSetting as error:
        say("error", message=str(error))
        return 2
    if not given:
        say("error", message="EVC_INPUT names no input")
        return 2
    limit = int(os.environ.get("EVC_LIMIT") or 0) or None
    return run(given, os.environ.get("EVC_INPUT_KIND") or kind_of(given), limit, settings)


if __name__ == "__main__":
    sys.exit(main())
