"""Inputs of run_inference as users write them."""

from __future__ import annotations

import re

import pytest

from evc.errors import InputError
from evc.fleet.inputs import INPUT_PATTERN, check_input, hide_password, kinds_of
from tests.fleet.reid import model

ALL = model(inputs=["file", "folder", "camera", "url"])


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("/data/a b.avi", ("file", "folder")),
        ("/data/카메라", ("file", "folder")),
        ("/dev/video0", ("camera",)),
        ("rtsp://me:secret@10.0.0.7:554/1?x=y", ("url",)),
        ("http://[::1]/a.mp4", ("url",)),
    ],
)
def test_what_an_input_may_be(text: str, kinds: tuple[str, ...]) -> None:
    check_input(text, ALL)
    assert kinds_of(text) == kinds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.avi",
        "/",
        "data/a",
        "/a:b",
        "/a\nb",
        "/a\x00",
        "/a/../b",
        "/./a",
        "file",
        "x://",
        "rtsp://a b",
        "/" + "a" * 1001,
    ],
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(InputError, match="^input: "):
        check_input(text, ALL)


def test_what_the_model_does_not_take() -> None:
    with pytest.raises(InputError, match="is a camera; allowed: what reid takes: file"):
        check_input("/dev/video0", model(inputs=["file"]))
    check_input("/data/x", model(inputs=["folder"]))


def test_the_form_refuses_most_of_it_before() -> None:
    assert not re.search(INPUT_PATTERN, "a.avi")
    assert re.search(INPUT_PATTERN, "/data/a.avi")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://me:p@ss@cam/1", "rtsp://***@cam/1"),
        ("rtsp://me:secret@cam/1@2", "rtsp://***@cam/1@2"),
        ("rtsp://cam/1", "rtsp://cam/1"),
        ("rtsp://cam/1@2", "rtsp://cam/1@2"),
        ("rtsp://me:se/cret@cam/1", "rtsp://***@cam/1"),
        ("http://cam/x.jpg?user=me&password=secret&size=2", "http://cam/x.jpg?user=me&password=***&size=2"),
        ("/data/password=x.avi", "/data/password=x.avi"),
        ("/data/me:secret@x", "/data/me:secret@x"),
    ],
)
def test_logins_of_cameras_are_not_shown(text: str, shown: str) -> None:
    assert hide_password(text) == shown
