"""Frames of every kind of input."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from reid.frames import SourceError, kind_of, open_frames
from tests.include.models.reid.conftest import COUNT, Picture


@pytest.fixture
def served(clip: Path) -> Iterator[str]:
    """The URL of a folder with the video, on loopback."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(clip.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_video_file(clip: Path) -> None:
    frames = list(open_frames(str(clip), "file"))
    assert [frame.index for frame in frames] == list(range(COUNT))
    assert [frame.at_s for frame in frames[:3]] == [0.0, 0.1, 0.2]
    assert frames[0].picture is not None
    assert frames[0].picture.shape == (576, 768, 3)
    assert [frame.index for frame in open_frames(str(clip), "file", 5)] == [0, 5, 10]


def test_a_folder_of_pictures_one_of_them_damaged(tmp_path: Path, pictures: list[Picture]) -> None:
    for name, picture in zip(("b.jpg", "a.png", "d.bmp"), pictures, strict=False):
        cv2.imwrite(str(tmp_path / name), picture)
    (tmp_path / "c.jpg").write_bytes((tmp_path / "b.jpg").read_bytes()[:10])
    (tmp_path / "notes.txt").write_text("x")
    frames = list(open_frames(str(tmp_path), "folder"))
    assert [(frame.name, frame.picture is None) for frame in frames] == [
        ("a.png", False), ("b.jpg", False), ("c.jpg", True), ("d.bmp", False)
    ]  # fmt: skip
    assert [frame.name for frame in open_frames(str(tmp_path / "a.png"), "file")] == ["a.png"]


def test_a_url_gives_the_newest_frames_and_ends(served: str) -> None:
    frames = list(open_frames(f"{served}/clip.avi", "url"))
    assert 1 <= len(frames) <= COUNT
    assert all(frame.picture is not None and frame.at_s is None for frame in frames)


def test_what_can_not_be_opened_says_so(tmp_path: Path, served: str) -> None:
    (tmp_path / "text.avi").write_text("no video")
    for given, kind in (
        (str(tmp_path / "away.avi"), "file"), (str(tmp_path / "text.avi"), "file"), (f"{served}/away.avi", "url"),
        ("/dev/video99", "camera"),
    ):  # fmt: skip
        with pytest.raises(SourceError):
            list(open_frames(given, kind))


def test_a_camera_that_fails_is_opened_anew_for_ever(served: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("reid.frames.time.sleep", waits.append)
    frames = list(islice(open_frames(f"{served}/away.avi", "url", is_continuous=True), 7))
    assert {frame.problem for frame in frames} == {"url can't be opened"}
    assert waits == [1, 2, 4, 8, 16, 30]


def test_kinds(tmp_path: Path) -> None:
    kinds = [kind_of(given) for given in ("rtsp://a/b", str(tmp_path), "/dev/video0", "0", "/data/a.avi")]
    assert kinds == ["url", "folder", "camera", "camera", "file"]


def test_a_picture_without_colour_has_three_channels(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((8, 8), 9, np.uint8))
    [frame] = open_frames(str(tmp_path), "folder")
    assert frame.picture is not None
    assert frame.picture.shape == (8, 8, 3)
