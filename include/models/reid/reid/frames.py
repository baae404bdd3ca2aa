"""Frames, one after the other: of a video file, of a folder of pictures or one picture, of a camera, of a URL.

A camera and a URL go on while a frame is looked at, so a thread reads them and only the newest frame counts: one that
waited in a queue would tell of the past. A file is read frame by frame.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from reid.detection import Picture

PICTURES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0
SILENCE_S = 15.0


class SourceError(Exception):
    """A source can't be opened, sent no picture, or a file of it is none."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame.

    :param index: in the input, from 0; of a live source: of the frames looked at
    :param at_s: seconds since the first frame of a recording; None of a live source and of pictures
    :param name: of the picture's file
    :param problem: why there is no picture
    """

    index: int
    picture: Picture | None
    at_s: float | None = None
    name: str | None = None
    problem: str = ""


def kind_of(given: str) -> str:
    """Return what an input is, where nobody says so: ``folder``, ``camera``, ``url`` or ``file``."""
    if "://" in given:
        return "url"
    if Path(given).is_dir():
        return "folder"
    return "camera" if given.isdecimal() or given.startswith("/dev/") else "file"


def open_frames(given: str, kind: str, every: int = 1, *, is_continuous: bool = False) -> Iterator[Frame]:
    """Yield the frames of an input, every so-manieth.

    :param is_continuous: a camera or URL that fails is opened anew, for ever; else it is an error
    :raises SourceError: it can't be opened, or a live one sent no picture at all for 15 s
    """
    if kind in ("camera", "url"):
        return _live(given, kind, every, is_continuous)
    path = Path(given)
    if not path.exists():
        raise SourceError(f"{given}: no such file or folder")
    if kind == "folder":
        return _pictures(sorted(each for each in path.iterdir() if each.suffix.lower() in PICTURES), every)
    if path.suffix.lower() in PICTURES:
        return _pictures([path], 1)
    return _recording(given, every)


def _pictures(paths: list[Path], every: int) -> Iterator[Frame]:
    for index, path in enumerate(paths):
        if index % every:
            continue
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is None:
            yield Frame(index, None, name=path.name, problem="no picture that OpenCV can read")
        else:
            yield Frame(index, np.asarray(picture, np.uint8), name=path.name)


def _recording(given: str, every: int) -> Iterator[Frame]:
    capture = cv2.VideoCapture(given)
    try:
        if not capture.isOpened():
            raise SourceError(f"{Path(given).name}: no video that OpenCV can read")
        per_s = float(capture.get(cv2.CAP_PROP_FPS))
        index = 0
        while capture.grab():
            if index % every == 0:
                is_whole, picture = capture.retrieve()
                at_s = index / per_s if per_s > 0 else None
                if is_whole:
                    yield Frame(index, np.asarray(picture, np.uint8), at_s)
                else:
                    yield Frame(index, None, at_s, problem="a damaged frame")
            index += 1
        if not index:
            raise SourceError(f"{Path(given).name}: a video without a frame")
    finally:
        capture.release()


def _live(given: str, kind: str, every: int, is_continuous: bool) -> Iterator[Frame]:
    index, wait_s = 0, FIRST_WAIT_S
    while True:
        newest = _Newest(given, kind, every)
        try:
            while (picture := newest.take()) is not None:
                yield Frame(index, picture)
                index, wait_s = index + 1, FIRST_WAIT_S
        finally:
            newest.close()
        problem = f"{kind} sent no picture" if newest.opened else f"{kind} can't be opened"
        if not is_continuous:
            if not index:
                raise SourceError(problem)
            return  # it had an end
        yield Frame(index, None, problem=problem)
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)


class _Newest:
    """The newest frame of a live source, each given out once."""

    def __init__(self, given: str, kind: str, every: int) -> None:
        self._source: Any = _device(given) if kind == "camera" else given
        self._every = every
        self._changed = threading.Condition()
        self._picture: Picture | None = None
        self._ended = False
        self.opened = False
        threading.Thread(target=self._read, daemon=True).start()

    def take(self) -> Picture | None:
        """Wait for a frame that was not given out; None where the source has ended or is silent for too long."""
        with self._changed:
            self._changed.wait_for(lambda: self._picture is not None or self._ended, SILENCE_S)
            picture, self._picture = self._picture, None
            return picture

    def close(self) -> None:
        """Let the thread end after the frame that it reads."""
        with self._changed:
            self._ended = True

    def _read(self) -> None:
        capture = cv2.VideoCapture(self._source)
        self.opened = capture.isOpened()
        count = 0
        while not self._ended and capture.grab():
            is_whole, picture = capture.retrieve() if count % self._every == 0 else (False, None)
            count += 1
            if is_whole:
                with self._changed:
                    self._picture = np.asarray(picture, np.uint8)
                    self._changed.notify()
        capture.release()
        with self._changed:
            self._ended = True
            self._changed.notify()


def _device(given: str) -> int | str:
    number = given.removeprefix("/dev/video")
    return int(number) if number.isdecimal() else os.path.realpath(given)
