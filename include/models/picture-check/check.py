"""Prints a brightness line and a sharpness line for each picture of ``EVC_INPUT``, a file or a folder."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from pictures import NoPicture, Rows, read_picture

_ENDINGS = frozenset({".png", ".pgm", ".ppm"})


def brightness(rows: Rows) -> float:
    """Return the mean brightness, 0 to 1."""
    return sum(map(sum, rows)) / (255 * sum(map(len, rows)))


def sharpness(rows: Rows) -> float:
    """Return the mean difference between points side by side, 0 to 1."""
    total = sum(abs(left - right) for row in rows for left, right in pairwise(row))
    return total / (255 * sum(len(row) - 1 for row in rows))


def pictures(given: Path) -> Iterator[Path]:
    """Yield the pictures of a folder by name, or the one file."""
    if given.is_dir():
        yield from sorted(path for path in given.iterdir() if path.suffix.lower() in _ENDINGS and path.is_file())
    else:
        yield given


def say(kind: str, **more: object) -> None:
    """Print one result line."""
    print(json.dumps({"kind": kind, **more}, separators=(",", ":")), flush=True)


def check(rows: Rows) -> list[tuple[str, float, str]]:
    """Return kind, value and label of what there is to say of a picture."""
    light, edges = brightness(rows), sharpness(rows)
    is_dark, is_bright = light < float(os.environ["DARK_BELOW"]), light > float(os.environ["BRIGHT_ABOVE"])
    return [
        ("brightness", light, "dark" if is_dark else "bright" if is_bright else "ok"),
        ("sharpness", edges, "flat" if edges < float(os.environ["FLAT_BELOW"]) else "ok"),
    ]


def run(given: Path, limit: int) -> int:
    """Check up to ``limit`` pictures; returns the exit status: 1 where none could be read."""
    begin, good, frames = time.monotonic(), 0, 0
    for frame, path in enumerate(pictures(given)):
        if frame >= limit:
            break
        frames, started = frame + 1, time.monotonic()
        try:
            said = check(read_picture(path.read_bytes()))
        except (NoPicture, OSError) as error:
            say("error", frame=frame, file=path.name, message=str(error))
            continue
        latency_ms = round((time.monotonic() - started) * 1000, 3)
        for kind, value, label in said:
            say(kind, frame=frame, file=path.name, value=round(value, 5), label=label, latency_ms=latency_ms)
        good += 1
    say("summary", frames=frames, duration_s=max(round(time.monotonic() - begin, 3), 0.001))
    return 0 if good or not frames else 1


def self_test() -> int:
    """Return 0 where a picture that is known gives what is known of it."""
    rows = read_picture(b"P5 4 2 255\n" + bytes([0, 255] * 4))
    return 0 if abs(brightness(rows) - 0.5) < 0.01 and sharpness(rows) == 1 else 1


def main() -> int:
    """Do what the environment says."""
    for name, value in (("DARK_BELOW", "0.1"), ("BRIGHT_ABOVE", "0.9"), ("FLAT_BELOW", "0.004")):
        os.environ.setdefault(name, value)
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    given = os.environ.get("EVC_INPUT")
    if not given or not Path(given).exists():
        say("error", message=f"EVC_INPUT is {given!r}: no file or folder")
        return 2
    return run(Path(given), int(os.environ.get("EVC_LIMIT") or sys.maxsize))


if __name__ == "__main__":
    sys.exit(main())
