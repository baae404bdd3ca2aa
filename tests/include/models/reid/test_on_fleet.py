"""Built from ``base/opencv:4``, where no package registry is reached, and run on a node with real frames."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import pytest

from evc.building.source import read_source
from tests.include.models.reid.conftest import FOLDER, Picture
from tests.include.models.test_on_fleet import build_and_run, rows, runner
from tests.servers.airflow import DagRunner
from tests.servers.edge_node import EdgeNode

__all__ = ["runner"]

pytestmark = [pytest.mark.fleet, pytest.mark.xdist_group("fleet")]


def test_people_are_seen_by_a_node(
    runner: DagRunner,
    clean_node: EdgeNode,
    pictures: list[Picture],
    tmp_path: Path,
) -> None:
    shutil.copytree(FOLDER, tmp_path / "models" / "reid", ignore=shutil.ignore_patterns("__pycache__"))
    for number, picture in enumerate(pictures[:3]):
        clean_node.write_file(f"/srv/people/{number}.jpg", cv2.imencode(".jpg", picture)[1].tobytes())
    image = build_and_run(runner, clean_node, "reid", "/srv/people")
    health = read_source(FOLDER.parent, "reid").model.health.command or []
    clean_node.run("docker", "run", "--rm", "--entrypoint", health[0], image, *health[1:])
    people = rows(runner, "SELECT label, payload FROM inference_results WHERE kind = 'person' ORDER BY seq")
    assert 3 <= len(people) <= 9
    assert {json.loads(payload)["describer"] for _, payload in people} == {"stripes-1"}
    assert rows(runner, "SELECT frames, errors, malformed FROM inference_runs") == [(3, 0, 0)]
