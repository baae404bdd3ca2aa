"""The model as its container runs it: every kind of input, and lines that keep the contract."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from bench.plants import EXAMPLES
from evc.building.source import read_source
from evc.fleet.results import read_line

FOLDER = Path(__file__).parents[4] / "include" / "models" / "smart_farm"
KINDS = {result.kind for result in read_source(FOLDER.parent, "smart_farm").model.results}
INDICES = ["exg", "exgr", "gli", "ngrdi", "vari", "mgrvi"]
PLANT = EXAMPLES / "alphamat" / "input_images" / "plant.jpg"
Run = Callable[..., tuple[int, list[dict[str, Any]]]]


def painted(cover: float, leaf: tuple[int, int, int] = (50, 160, 60)) -> Any:
    picture = np.full((100, 120, 3), (70, 90, 110), np.uint8)
    picture[: round(100 * cover)] = leaf
    return picture


def encoded(cover: float, ending: str = ".jpg") -> bytes:
    return bytes(cv2.imencode(ending, painted(cover))[1])


def kinds(lines: list[dict[str, Any]]) -> list[str]:
    return [line["kind"] for line in lines]


def values(lines: list[dict[str, Any]], kind: str) -> list[float]:
    return [line["value"] for line in lines if line["kind"] == kind]


def test_a_picture(run_model: Run) -> None:
    status, lines = run_model(PLANT)
    assert status == 0
    assert kinds(lines) == ["canopy_cover", *INDICES, "health", "frame", "summary"]
    assert all(line["frame"] == 0 and line["file"] == "plant.jpg" for line in lines[:-1])
    assert 0.3 < lines[0]["value"] < 0.5
    assert lines[7]["label"] == "green"
    assert (lines[-1]["frames"], lines[-2]["latency_ms"] > 0) == (1, True)


def test_a_folder_by_name_with_change_and_what_can_not_be_read(run_model: Run, tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(encoded(0.5, ".png"))
    (tmp_path / "2.jpg").write_bytes(encoded(0.5)[:200])
    (tmp_path / "3.png").write_bytes(encoded(0.2, ".png"))
    (tmp_path / "4.png").write_bytes(b"")
    (tmp_path / "5.png").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    status, lines = run_model(tmp_path)
    assert status == 0
    assert values(lines, "canopy_cover") == pytest.approx([0.5, 0.2], abs=0.02)
    assert values(lines, "change") == pytest.approx([-0.3], abs=0.02)
    assert "since_s" not in next(line for line in lines if line["kind"] == "change")
    assert [(line["frame"], line["file"]) for line in lines if line["kind"] == "error"] == [(1, "2.jpg"), (3, "4.png")]
    assert lines[-1]["frames"] == 4
    assert run_model(tmp_path, EVC_LIMIT="1")[1][-1]["frames"] == 1


def test_the_times_of_files(run_model: Run, tmp_path: Path) -> None:
    for hour, cover in ((0, 0.5), (1, 0.4)):
        file = tmp_path / f"{hour}.png"
        file.write_bytes(encoded(cover, ".png"))
        os.utime(file, (1_700_000_000 + 3600 * hour,) * 2)
    lines = run_model(tmp_path, PICTURE_TIME="file")[1]
    assert [line["ts"] for line in lines if line["kind"] == "frame"] == [1_700_000_000, 1_700_003_600]
    assert next(line for line in lines if line["kind"] == "change")["since_s"] == 3600


def test_change_over_runs_by_a_file(run_model: Run, tmp_path: Path) -> None:
    state, picture = tmp_path / "state" / "last.json", tmp_path / "a.png"
    picture.write_bytes(encoded(0.5, ".png"))
    assert run_model(picture, STATE_FILE=str(state))[1][-3]["label"] == "state"  # there is no such folder
    state.parent.mkdir()
    assert "change" not in kinds(run_model(picture, STATE_FILE=str(state))[1])
    picture.write_bytes(encoded(0.25, ".png"))
    assert values(run_model(picture, STATE_FILE=str(state))[1], "change") == pytest.approx([-0.25], abs=0.02)


def test_pictures_that_tell_nothing_are_no_measurement(run_model: Run, tmp_path: Path) -> None:
    for name, picture in (
        ("dark", painted(0.5) // 16),
        ("bright", painted(0.5) | 252),
        ("grey", painted(0.5) * 0 + 99),
    ):
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture)
    status, lines = run_model(tmp_path)
    assert status == 0
    assert [(line["kind"], line["label"]) for line in lines[:-1]] == [
        ("error", "bright"),
        ("error", "dark"),
        ("error", "grey"),
    ]


def test_soil_has_cover_zero_and_no_indices(run_model: Run, tmp_path: Path) -> None:
    (tmp_path / "soil.png").write_bytes(encoded(0, ".png"))
    status, lines = run_model(tmp_path / "soil.png")
    assert (status, kinds(lines)) == (0, ["canopy_cover", "frame", "summary"])
    assert lines[0]["value"] == 0


def test_yellow_leaves_are_discoloured(run_model: Run, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), painted(0.6, (40, 190, 210)))
    lines = run_model(tmp_path / "a.png")[1]
    assert [(line["label"], line["yellow_ratio"]) for line in lines if line["kind"] == "health"] == [
        ("discoloured", pytest.approx(1, abs=0.05))
    ]


def test_a_large_picture_is_reduced(run_model: Run, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), cv2.resize(painted(0.5), (4000, 3000)))
    lines = run_model(tmp_path / "a.jpg")[1]
    assert lines[0]["value"] == pytest.approx(0.5, abs=0.01)


def test_a_picture_of_too_many_points_is_refused(run_model: Run, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8000, 7000), np.uint8))
    status, lines = run_model(tmp_path / "a.png")
    assert (status, lines[0]["kind"]) == (1, "error")


def test_a_video(run_model: Run, tmp_path: Path) -> None:
    video = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (120, 100))
    for number in range(30):
        video.write(painted(0.5 if number < 15 else 0.3))
    video.release()
    status, lines = run_model(tmp_path / "a.avi", INTERVAL_S="1")
    assert status == 0
    assert values(lines, "canopy_cover") == pytest.approx([0.5, 0.5, 0.3], abs=0.03)
    assert len(values(lines, "change")) == 2


@pytest.mark.parametrize(
    ("given", "environment", "status", "message"),
    [
        ("", {}, 2, "EVC_INPUT names no input"),
        ("/none.jpg", {}, 2, "/none.jpg: no file or folder"),
        (str(Path(__file__)), {}, 1, "neither a picture nor a video that can be read"),
        (str(PLANT), {"METHOD": "ndvi"}, 2, "METHOD is 'ndvi'; allowed: exg, exgr, cive, lab_a"),
    ],
)
def test_what_can_not_be(run_model: Run, given: str, environment: dict[str, str], status: int, message: str) -> None:
    told, lines = run_model(given, **environment)
    assert (told, lines[0]["kind"], lines[0]["message"]) == (status, "error", message)


def test_it_tests_itself() -> None:
    subprocess.run([sys.executable, "-B", "-m", "smart_farm", "--self-test"], cwd=FOLDER, check=True)


def test_its_lines_keep_the_contract(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(encoded(0.5, ".png"))
    (tmp_path / "2.png").write_bytes(b"x")
    (tmp_path / "3.png").write_bytes(encoded(0.4, ".png"))
    done = subprocess.run(
        [sys.executable, "-B", "-m", "smart_farm"],
        cwd=FOLDER,
        env={"PATH": os.defpath, "EVC_INPUT": str(tmp_path)},
        capture_output=True,
        check=True,
    )
    read = [read_line(line, 0, KINDS).kind for line in done.stdout.splitlines()]
    every = ["canopy_cover", *INDICES, "health"]
    assert read == [*every, "frame", "error", *every, "change", "frame", "summary"]


# -- cameras -----------------------------------------------------------------------------------------------------------


class _Camera(BaseHTTPRequestHandler):
    """A camera in the network: a picture at /snapshot.jpg, for who logs in, and a stream at /stream."""

    protocol_version = "HTTP/1.0"
    login = "Basic " + base64.b64encode(b"me:se/cret").decode()

    def do_GET(self) -> None:
        if self.path == "/snapshot.jpg" and self.headers.get("Authorization") != self.login:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
        elif self.path == "/snapshot.jpg":
            self._send("image/jpeg", encoded(0.5))
        elif self.path == "/text.jpg":
            self._send("text/plain", b"hello")
        elif self.path == "/stream":
            self._send("multipart/x-mixed-replace; boundary=next", b"")
            part = b"--next\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n"
            picture = encoded(0.25)
            for _ in range(200):
                self.wfile.write(part % (len(picture), picture))
        else:
            self.send_error(404)

    def _send(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)

    def handle(self) -> None:
        with suppress(ConnectionError):  # who looked has seen enough
            super().handle()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as the base class calls it
        pass


@pytest.fixture(scope="module")
def camera() -> Iterator[str]:
    """Yield host and port of a camera."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Camera) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_camera_that_is_asked_for_pictures(run_model: Run, camera: str) -> None:
    status, lines = run_model(f"http://me:se%2Fcret@{camera}/snapshot.jpg", EVC_LIMIT="2", INTERVAL_S="0.1")
    assert status == 0
    assert values(lines, "canopy_cover") == pytest.approx([0.5, 0.5], abs=0.02)
    change = next(line for line in lines if line["kind"] == "change")
    assert (change["value"], change["since_s"] >= 0.1, change["ts"] > 1_700_000_000) == (0, True, True)


def test_a_stream(run_model: Run, camera: str) -> None:
    for interval in ("0", "60"):
        status, lines = run_model(f"http://{camera}/stream", EVC_LIMIT="1", INTERVAL_S=interval)
        assert (status, lines[-1]["frames"]) == (0, 1)
        assert values(lines, "canopy_cover") == pytest.approx([0.25], abs=0.02)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://me:wrong@{}/snapshot.jpg", "the camera answered 401"),
        ("http://{}/other.jpg", "the camera answered 404"),
        ("http://{}/text.jpg", "the camera's answer is no picture"),
        ("http://me:wrong@127.0.0.1:9/a.jpg", "the camera did not answer: URLError"),
        ("http://me:wrong@{}/other", "the camera sent no picture"),
    ],
)
def test_a_camera_that_sends_nothing(run_model: Run, camera: str, url: str, message: str) -> None:
    status, lines = run_model(url.format(camera), EVC_LIMIT="1")
    assert (status, lines[0]["kind"], lines[0]["message"]) == (1, "error", message)
    assert "wrong" not in json.dumps(lines)


def test_a_device_that_is_no_camera(run_model: Run) -> None:
    status, lines = run_model("/dev/null", EVC_LIMIT="1", EVC_INPUT_KIND="camera")
    assert (status, lines[0]["message"]) == (1, "the camera sent no picture")


def test_it_ends_in_order_when_it_is_stopped(camera: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-B", "-m", "smart_farm"],
        cwd=FOLDER,
        env={"PATH": os.defpath, "EVC_INPUT": f"http://me:se%2Fcret@{camera}/snapshot.jpg"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        while json.loads(process.stdout.readline())["kind"] != "frame":
            pass
        process.send_signal(signal.SIGTERM)
        assert json.loads(process.stdout.read().splitlines()[-1])["kind"] == "summary"
    assert process.returncode == 0
