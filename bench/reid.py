"""Re-ID: people found again in a second camera on real video, and the speed of linking."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from bench.cameras import LEFT, RIGHT, Picture, Seen, Truth, frames, in_other_light, rank, together, tracks_in, truth_of
from bench.child import BenchError, run
from bench.models import model_module
from bench.stage import Stage
from bench.table import Section, at_least
from evc.identities.embedding import Vector, decode
from evc.identities.gallery import Gallery
from evc.identities.link import Linked, Rules, link
from evc.identities.sightings import Sightings

DETECTOR = os.environ.get("DETECTOR", "hog")
"""As the model's setting: a network of one's own is measured by naming it."""
QUICK_FRAMES = 150
HOG_FRAMES, ALL_FRAMES = 300, 795  # hog is slow
GAP_FRAMES = 20
FRAMES_PER_S = 10
BEGIN_TS = 1_700_000_000
OWN, HSV = "stripes", "HSV histogram"
# one core for each, so that a figure is of one core
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def measure(stage: Stage) -> Section:
    """Watch the video by two cameras, then by two of which one is in another light; link; time linking alone."""
    section = Section("Re-ID: people found again in a second camera")
    cv2.setNumThreads(1)
    left, speed = _watch(LEFT, stage.quick, other_light=False)
    section.add("frames a second, one core: found, followed, described", speed, "frames/s")
    for light, changed in (("the same light", False), ("another light", True)):
        right, _ = _watch(RIGHT, stage.quick, other_light=changed)
        truth = truth_of(left, right)
        _add_ranks(section, truth, light)
        section.add("  ID switches, both trackers", truth.switches, f"of {truth.matched:,} pairs of boxes")
        _add_links(section, truth, left, right)
        section.remarks.append(
            f"{light}: {tracks_in(left)} and {tracks_in(right)} tracks, {len(truth.pairs)} pairs of them are truth"
        )
    _add_speed(section, stage)
    section.remarks += [
        "cameras: two parts of vtest.avi (768 x 576), 528 points wide each, that share 288",
        f"detector: {DETECTOR}, the frames that it was given: {_frame_count(stage.quick)}; else the model's defaults",
        f"ranked: the same person {GAP_FRAMES / FRAMES_PER_S:g} s or more apart, among those who were there together",
        "another light: the second camera's picture is tinted, brightened, blurred; angle and distance stay the same",
        "links: pairs of tracks that are truth and became one identity; wrong ones: of people who were there together",
        f"OpenCV {cv2.__version__}, NumPy {np.__version__}, one thread each",
    ]
    return section


# -- the model ---------------------------------------------------------------------------------------------------------


def _watch(part: slice, quick: bool, *, other_light: bool) -> tuple[list[Seen], float]:
    """Return what the model sees in a part of the video, an embedding for each sighting, and frames a second."""
    settings = model_module("reid", "settings").Settings(describe_every=1, detector=DETECTOR)
    watcher = model_module("reid", "watch").Watcher(settings)
    seen: list[Seen] = []
    spent_s, count = 0.0, 0
    for index, whole in enumerate(frames(_frame_count(quick))):
        picture = in_other_light(whole[:, part]) if other_light else np.ascontiguousarray(whole[:, part])
        begun = time.perf_counter()
        people = watcher.look(picture)
        spent_s += time.perf_counter() - begun
        count += 1
        seen += [_seen(index, person, picture, part.start) for person in people]
    return seen, count / spent_s


def _frame_count(quick: bool) -> int:
    return QUICK_FRAMES if quick else HOG_FRAMES if DETECTOR == "hog" else ALL_FRAMES


def _seen(frame: int, person: dict[str, Any], picture: Picture, shift: int) -> Seen:
    left, top, width, height = person["box"]
    box = np.array([left, top, left + width, top + height], np.float32)
    vectors = {OWN: decode(person["embedding"]), HSV: _hsv(model_module("reid", "watch").cut(picture, box))}
    return Seen(frame, person["label"], box + np.array([shift, 0, shift, 0], np.float32), vectors)


def _hsv(person: Picture) -> Vector:
    """Return the usual baseline: one histogram of 8 x 8 x 4 over the whole person."""
    colours = cv2.cvtColor(person, cv2.COLOR_BGR2HSV)
    histogram = cv2.calcHist([colours], [0, 1, 2], None, [8, 8, 4], [0, 180, 0, 256, 0, 256]).ravel()
    return np.asarray(histogram / max(float(np.linalg.norm(histogram)), 1e-9), np.float32)


# -- figures -----------------------------------------------------------------------------------------------------------


def _add_ranks(section: Section, truth: Truth, light: str) -> None:
    own, other = rank(truth, OWN, GAP_FRAMES), rank(truth, HSV, GAP_FRAMES)
    better = at_least(other.rank1, own.rank1, "")
    section.add(f"{light}, {own.queries} queries: rank-1", own.rank1, "ratio", goal=better)
    section.add(f"    {HSV}", other.rank1, "ratio", other.rank1 / own.rank1)
    section.add("    chance", own.chance, "ratio", own.chance / own.rank1)
    section.add("  mean average precision", own.mean_ap, "ratio", goal=at_least(other.mean_ap, own.mean_ap, ""))
    section.add(f"    {HSV}", other.mean_ap, "ratio", other.mean_ap / own.mean_ap)


def _add_links(section: Section, truth: Truth, left: Sequence[Seen], right: Sequence[Seen]) -> None:
    linked = link(Gallery(OWN), _sightings(left, right), {}, Rules())
    identity = _identities(linked)
    wanted = [(identity[1, one], identity[2, other]) for one, other in truth.pairs]
    found = sum(one == other for one, other in wanted)
    wrong = {
        (pair[0], other[1])
        for pair, others in together(truth).items()
        for other in others
        if identity[1, pair[0]] == identity[2, other[1]] and (pair[0], other[1]) not in truth.pairs
    }
    section.add("  links found, default threshold", found / len(wanted), f"of {len(wanted)}")
    section.add("  wrong links", len(wrong), "links")


def _sightings(left: Sequence[Seen], right: Sequence[Seen]) -> Sightings:
    seen = [(1, each) for each in left] + [(2, each) for each in right]
    node = np.array([camera for camera, _ in seen], np.int64)
    ts = np.array([BEGIN_TS + each.frame / FRAMES_PER_S for _, each in seen], np.float64)
    vectors = np.stack([each.vectors[OWN] for _, each in seen])
    return Sightings(node, np.arange(len(seen)), node, ts, tuple(each.track for _, each in seen), vectors)


def _identities(linked: Linked) -> dict[tuple[int, str], int]:
    return linked.gallery.tracks()


def _add_speed(section: Section, stage: Stage) -> None:
    sightings, identities = (10_000, 500) if stage.quick else (100_000, 5_000)
    order = {"sightings": sightings, "identities": identities}
    told = run("matching", order, {**os.environ, **ONE_THREAD})
    if told["identities"] != identities:
        raise BenchError(f"{told['identities']} identities, wanted {identities}")
    own = told["link_1_s"]
    section.add(f"{sightings:,} sightings against {identities:,} identities, a track each", own, "s")
    section.add("    ten sightings a track", told["link_10_s"], "s", told["link_10_s"] / own)
    section.add("    floor: the bare matrix product", told["product_s"], "s", told["product_s"] / own)
    section.add("    a loop of numpy.dot (20 sightings, scaled)", told["loop_s"], "s", told["loop_s"] / own)
