"""Looks at one frame after the other: who is there, which track each is, what they look like."""

from __future__ import annotations

import base64
import math
import time
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from reid.description import Describer, Light, encode, light_of, open_describer
from reid.detection import Picture, open_detector
from reid.frames import Frame, SourceError, kind_of, open_frames
from reid.lines import Say
from reid.settings import Settings
from reid.tracking import Track, Tracker

GOES_ON_FROM = 0.75
"""The part of the score which begins a track that is enough to go on with one."""
CROP_HEIGHT, CROP_QUALITY = 128, 70


class Watcher:
    """What is known from frame to frame.

    :param prefix: of the tracks' labels: those of two starts of a container differ
    """

    def __init__(self, settings: Settings, prefix: str = "") -> None:
        self._settings = settings
        self._prefix = prefix
        low = settings.score_min * GOES_ON_FROM
        self._detector = open_detector(settings.detector, settings.layout, settings.detector_size, low)
        self._tracker = Tracker(settings.score_min, settings.missed_frames_max)
        self._describer: Describer = open_describer(settings.describer, settings.describer_size)
        self._looked = 0

    def look(self, picture: Picture) -> list[dict[str, Any]]:
        """Return what there is to say of the people in the next frame: the keys of a line ``person``."""
        found = self._detector.detect(picture)
        tracks = self._tracker.follow(found, self._looked)
        self._looked += 1
        known = [track for track in tracks if track.hits >= self._settings.hits_min]
        light = light_of(picture) if any(map(self._is_due, known)) else None
        return [self._said(track, picture, light) for track in known]

    def _said(self, track: Track, picture: Picture, light: Light | None) -> dict[str, Any]:
        left, top, right, bottom = (round(float(value), 1) for value in track.box)
        said: dict[str, Any] = {
            "label": f"{self._prefix}{track.number}",
            "score": round(track.score, 3),
            "box": [left, top, round(right - left, 1), round(bottom - top, 1)],
        }
        if light is not None and self._is_due(track):
            person = cut(picture, track.box)
            vector = self._describer.describe(person, light)
            said |= {"embedding": encode(vector), "describer": self._describer.name}
            if self._settings.crops:
                said["crop"] = small_jpeg(person)
        return said

    def _is_due(self, track: Track) -> bool:
        return (track.hits - self._settings.hits_min) % self._settings.describe_every == 0


def cut(picture: Picture, box: NDArray[np.float32]) -> Picture:
    """Return what a box holds, at least one point."""
    height, width = picture.shape[:2]
    left, top = min(int(box[0]), width - 1), min(int(box[1]), height - 1)
    return picture[top : max(math.ceil(box[3]), top + 1), left : max(math.ceil(box[2]), left + 1)]


def small_jpeg(person: Picture) -> str:
    """Return a picture as JPEG in base64, at most 128 points high."""
    factor = min(1.0, CROP_HEIGHT / person.shape[0])
    size = (max(1, round(person.shape[1] * factor)), max(1, round(person.shape[0] * factor)))
    small = cv2.resize(person, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, CROP_QUALITY])
    return base64.b64encode(data.tobytes()).decode()


def watch(settings: Settings, say: Say) -> int:
    """Look at an input until it ends, or ``limit`` frames; returns the exit status: 1 where no frame could be read.

    :raises SourceError: the input can't be opened
    :raises NetworkError: a network can't be used
    """
    if not settings.input:
        raise SourceError("EVC_INPUT names no input: a file, folder, camera or URL")
    watcher = Watcher(settings, f"{int(time.time()):x}-" if settings.is_continuous else "")
    kind = settings.input_kind or kind_of(settings.input)
    frames = open_frames(settings.input, kind, settings.frame_every, is_continuous=settings.is_continuous)
    begun, count, good = time.monotonic(), 0, 0
    try:
        for frame in frames:
            count += 1
            good += _tell(watcher, frame, settings, say)
            if count >= settings.limit:
                break
    except KeyboardInterrupt:
        pass  # told to stop
    finally:
        if count:
            say("summary", frames=count, duration_s=max(round(time.monotonic() - begun, 3), 0.001))
    return 0 if good or not count else 1


def _tell(watcher: Watcher, frame: Frame, settings: Settings, say: Say) -> bool:
    if frame.picture is None:
        say("error", frame=frame.index, file=frame.name, message=frame.problem)
        return False
    begun = time.monotonic()
    ts = _ts(frame, settings)
    people = watcher.look(frame.picture)
    latency_ms = round((time.monotonic() - begun) * 1000, 3)
    for person in people:
        say("person", ts=ts, frame=frame.index, file=frame.name, latency_ms=latency_ms, **person)
    say("frame", ts=ts, frame=frame.index, file=frame.name, people=len(people), latency_ms=latency_ms)
    return True


def _ts(frame: Frame, settings: Settings) -> float | None:
    if frame.at_s is None or settings.begin_ts is None:
        return None
    return round(settings.begin_ts + frame.at_s, 3)
