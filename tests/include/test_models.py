"""The models that come along: each can be read, and the small one tells what it sees."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from evc.building.source import known_models, read_source

MODELS = Path(__file__).parents[2] / "include" / "models"
CHECK = MODELS / "picture-check" / "check.py"


@pytest.mark.parametrize("name", known_models(MODELS))
def test_a_model_that_comes_along_can_be_read(name: str) -> None:
    source = read_source(MODELS, name)
    assert source.size_bytes < 10_000_000


def png(rows: list[list[int]], kind: int = 0, filters: int = 0) -> bytes:
    """Return a PNG; ``filters`` is the filter type of every row, its differences already in ``rows``."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    width = len(rows[0]) // {0: 1, 2: 3, 6: 4}[kind]
    head = struct.pack(">IIBBBBB", width, len(rows), 8, kind, 0, 0, 0)
    body = b"".join(bytes([filters, *row]) for row in rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


def run(given: Path | None, **environment: str) -> tuple[int, list[dict[str, Any]]]:
    told = {"EVC_INPUT": str(given)} if given else {}
    done = subprocess.run(
        [sys.executable, "-B", CHECK], env={"PATH": os.defpath, **told, **environment}, capture_output=True, check=False
    )
    assert done.stderr == b""
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("data", "brightness", "sharpness"),
    [
        (b"P5 4 2 255\n" + bytes([0, 255] * 4), 0.5, 1.0),
        (b"P5\n# a comment\n4 2\n255\n" + bytes([100] * 8), 100 / 255, 0.0),
        (b"P6 2 1 255\n" + bytes([255, 255, 255, 0, 0, 0]), 0.5, 1.0),
        (png([[0, 255], [255, 0]]), 0.5, 1.0),
        (png([[10, 5], [10, 5]], filters=1), 12.5 / 255, 5 / 255),
        (png([[10, 20], [0, 0]], filters=2), 15 / 255, 10 / 255),
        (png([[10, 20], [5, 5]], filters=3), None, None),
        (png([[10, 20], [5, 5]], filters=4), None, None),
        (png([[255, 0, 0, 255, 0, 0]], kind=2), 77 * 255 // 256 / 255, 0.0),
        (png([[0, 0, 0, 255, 255, 255, 255, 9]], kind=6), 0.5, 1.0),
    ],
)
def test_the_example_reads_pictures(
    tmp_path: Path, data: bytes, brightness: float | None, sharpness: float | None
) -> None:
    (tmp_path / "a.bin").write_bytes(data)
    status, (light, edges, summary) = run(tmp_path / "a.bin")
    assert (status, light["kind"], edges["kind"], summary["frames"]) == (0, "brightness", "sharpness", 1)
    if brightness is not None:
        assert light["value"] == pytest.approx(brightness, abs=0.01)
        assert edges["value"] == pytest.approx(sharpness, abs=0.01)


def test_the_example_takes_folders_and_says_what_it_can_not_read(tmp_path: Path) -> None:
    (tmp_path / "1.pgm").write_bytes(b"P5 2 1 255\n\x00\x00")
    (tmp_path / "2.png").write_bytes(png([[0, 255]])[:45])
    (tmp_path / "3.ppm").write_bytes(b"P5 2 1 255\n\xff\x00")
    (tmp_path / "notes.txt").write_text("x")
    status, lines = run(tmp_path)
    assert status == 0
    assert [(line["kind"], line.get("frame"), line.get("label")) for line in lines] == [
        ("brightness", 0, "dark"),
        ("sharpness", 0, "flat"),
        ("error", 1, None),
        ("brightness", 2, "ok"),
        ("sharpness", 2, "ok"),
        ("summary", None, None),
    ]
    assert run(tmp_path, EVC_LIMIT="1")[1][-1]["frames"] == 1


def test_the_example_without_input_or_with_nothing_readable_fails(tmp_path: Path) -> None:
    assert run(None)[0] == 2
    assert run(tmp_path / "none.png")[0] == 2
    (tmp_path / "a.png").write_text("x")
    assert run(tmp_path)[0] == 1


def test_the_example_tests_itself() -> None:
    subprocess.run([sys.executable, "-B", CHECK, "--self-test"], check=True)


def test_its_lines_keep_the_contract(tmp_path: Path) -> None:
    from evc.fleet.results import read_line

    (tmp_path / "a.png").write_bytes(png([[0, 255], [255, 0]]))
    (tmp_path / "b.png").write_text("x")
    kinds = {result.kind for result in read_source(MODELS, "picture-check").model.results}
    done = subprocess.run(
        [sys.executable, "-B", CHECK],
        env={"PATH": os.defpath, "EVC_INPUT": str(tmp_path)},
        capture_output=True,
        check=True,
    )
    read = [read_line(line, 0, kinds).kind for line in done.stdout.splitlines()]
    assert read == ["brightness", "sharpness", "error", "summary"]
