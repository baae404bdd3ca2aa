"""Pictures from a file (picture or video), a folder, a camera or a URL."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from .canopy import Picture

PICTURE_ENDINGS = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
VIDEO_ENDINGS = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"})
"""Of a URL: a video that ends, not a camera."""
_TIMEOUT_S = 10
_RETRY_S = 2.0
_TRIES = 3
_KEEP_OPEN_BELOW_S = 5.0  # a stream is decoded as long as it is open, looked at or not
_MAX_PICTURE_BYTES = 64 << 20


class NoSource(Exception):
    """There is nothing to look at; the message says why, and holds no login."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture, or why there is none.

    :param name: of its file
    :param ts: when it was taken, or its file written, unix seconds
    :param is_live: it came from a camera
    """

    picture: Picture | None
    problem: str = ""
    name: str = ""
    ts: float | None = None
    is_live: bool = False


def shots(given: str, kind: str, interval_s: float, warm_up_frames: int) -> Iterator[Shot]:
    """Yield what an input shows: a file or folder once, a camera or stream as long as somebody asks.

    :param kind: file, folder, camera or url
    :param interval_s: seconds between two pictures of a video, a camera or a URL
    :param warm_up_frames: of a camera or stream, left out at first: its exposure settles
    :raises NoSource: there is no such file, or the camera sent nothing several times in a row
    """
    if kind == "url" and given.startswith(("http://", "https://")):
        if _ending(given) in PICTURE_ENDINGS:
            return _live(lambda: iter([_fetch(given)]), interval_s)
        if _ending(given) in VIDEO_ENDINGS:
            return _video(given, Path(urllib.parse.urlsplit(given).path).name, interval_s)
    if kind in ("camera", "url"):
        return _live(lambda: _stream(given, kind, interval_s, warm_up_frames), interval_s)
    path = Path(given)
    if path.is_dir():
        return (_read(each) for each in sorted(path.iterdir()) if _is_picture(each) and each.is_file())
    if not path.is_file():
        raise NoSource(f"{given}: no file or folder")
    return iter([_read(path)]) if _is_picture(path) else _video(given, path.name, interval_s)


def kind_of(given: str) -> str:
    """Return the kind of an input that was named without one."""
    return "url" if "://" in given else "camera" if given.startswith("/dev/") else "file"


def _ending(url: str) -> str:
    return Path(urllib.parse.urlsplit(url).path).suffix.lower()


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_ENDINGS


def _decode(data: bytes) -> Picture | None:
    if not data:
        return None
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # larger than allowed
        return None
    return None if picture is None else np.asarray(picture, np.uint8)


def _read(path: Path) -> Shot:
    try:
        picture = _decode(path.read_bytes())
        ts = path.stat().st_mtime
    except OSError as error:
        return Shot(None, error.strerror or "can't be read", path.name)
    return Shot(picture, "" if picture is not None else "not a picture, damaged, or too large", path.name, ts)


def _video(given: str, name: str, interval_s: float) -> Iterator[Shot]:
    capture = cv2.VideoCapture(given, cv2.CAP_FFMPEG)
    try:
        step = max(round(interval_s * (capture.get(cv2.CAP_PROP_FPS) or 25)), 1)
        number = 0
        while capture.grab():
            if number % step == 0:
                yield _grabbed(capture, name)
            number += 1
        if not number:
            yield Shot(None, "neither a picture nor a video that can be read", name)
    finally:
        capture.release()


def _live(connect: Callable[[], Iterator[Shot]], interval_s: float) -> Iterator[Shot]:
    failed = 0
    while True:
        came = False
        for shot in connect():
            came = came or shot.picture is not None
            yield shot
        failed = 0 if came else failed + 1
        if failed == _TRIES:
            raise NoSource(f"no picture came, {_TRIES} times in a row")
        time.sleep(_RETRY_S if failed else interval_s)


def _stream(given: str, kind: str, interval_s: float, warm_up_frames: int) -> Iterator[Shot]:
    """Yield what one connection shows: one picture, or all of them where they are wanted often."""
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _TIMEOUT_S * 1000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _TIMEOUT_S * 1000]
    way, options = (cv2.CAP_V4L2, []) if kind == "camera" else (cv2.CAP_FFMPEG, limits)
    capture = cv2.VideoCapture(given, way, options)
    try:
        number, due_s = 0, 0.0
        while capture.grab():
            number += 1
            if number <= warm_up_frames or time.monotonic() < due_s:
                continue
            due_s = time.monotonic() + interval_s
            yield _grabbed(capture, "")
            if interval_s >= _KEEP_OPEN_BELOW_S:
                return
        if not number:
            yield Shot(None, "the camera sent no picture")
    finally:
        capture.release()


def _grabbed(capture: cv2.VideoCapture, name: str) -> Shot:
    is_good, picture = capture.retrieve()
    if not is_good:
        return Shot(None, "a frame can't be decoded", name)
    return Shot(np.asarray(picture, np.uint8), name=name, ts=None if name else time.time(), is_live=not name)


def _fetch(url: str) -> Shot:
    """Return what a camera answers to an HTTP request, with the login of its URL."""
    parts = urllib.parse.urlsplit(url)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    logins = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    if parts.username:
        login = urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or "")
        logins.add_password(None, bare, *login)
    ways = urllib.request.HTTPBasicAuthHandler(logins), urllib.request.HTTPDigestAuthHandler(logins)
    try:
        with urllib.request.build_opener(*ways).open(bare, timeout=_TIMEOUT_S) as answer:
            picture = _decode(answer.read(_MAX_PICTURE_BYTES))
    except urllib.error.HTTPError as error:
        return Shot(None, f"the camera answered {error.code}")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Shot(None, f"the camera did not answer: {type(error).__name__}")
    if picture is None:
        return Shot(None, "the camera's answer is no picture")
    return Shot(picture, ts=time.time(), is_live=True)
