"""Two cameras made of one: overlapping parts of real video. What both see at the same place is the same person.

The video is ``vtest.avi`` of Debian's ``opencv-doc``: 795 frames of 768 x 576 at 10 a second, people on a campus.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray

from bench.child import BenchError

VIDEO = "/usr/share/doc/opencv-doc/examples/data/vtest.avi"
LEFT, RIGHT = slice(0, 528), slice(240, 768)
COMMON_MIN = 20
"""Frames in which two tracks are at the same place: fewer are no truth."""
SAME_MIN = 0.5
"""Intersection over union from which on two boxes are at the same place."""

Picture = NDArray[np.uint8]
Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Seen:
    """Somebody in one frame of one camera.

    :param box: left, top, right, bottom, points of the whole frame
    :param vectors: by what described it
    """

    frame: int
    track: str
    box: NDArray[np.float32]
    vectors: dict[str, Vector]


@dataclass(slots=True)
class Truth:
    """Pairs of a left and a right track that are one person, with what each camera saw while they were.

    :param pairs: by left and right track: left and right sightings of the same frames
    :param switches: how often the partner of a track became another one
    :param matched: pairs of boxes at the same place
    """

    pairs: dict[tuple[str, str], list[tuple[Seen, Seen]]] = field(default_factory=dict)
    switches: int = 0
    matched: int = 0


def frames(count: int) -> Iterator[Picture]:
    """Yield the frames of the video, at most ``count``. :raises BenchError: it is not there"""
    capture = cv2.VideoCapture(VIDEO)
    if not capture.isOpened():
        raise BenchError(f"{VIDEO} can't be read: apt install opencv-doc")

    def read() -> Iterator[Picture]:
        while (got := capture.read())[0]:
            yield np.asarray(got[1], np.uint8)

    yield from islice(read(), count)
    capture.release()


def in_other_light(picture: Picture) -> Picture:
    """Return a picture as a cheaper camera in another light would give it: bluish, brighter, blurred."""
    tinted = np.clip(picture.astype(np.float32) * np.array([1.1, 0.95, 0.8], np.float32), 0, 255)
    brighter = 255 * (tinted / 255) ** 0.8
    return np.asarray(cv2.GaussianBlur(brighter, (0, 0), 0.8), np.uint8)


def truth_of(left: Sequence[Seen], right: Sequence[Seen]) -> Truth:
    """Return who is who, from where they are."""
    truth, by_frame = Truth(), _by_frame(right)
    found: dict[tuple[str, str], list[tuple[Seen, Seen]]] = defaultdict(list)
    partners: dict[tuple[str, str], str] = {}
    for frame, here in _by_frame(left).items():
        for one, other in _same_places(here, by_frame.get(frame, [])):
            found[one.track, other.track].append((one, other))
            truth.matched += 1
            for side, track, partner in (("left", one.track, other.track), ("right", other.track, one.track)):
                truth.switches += partners.get((side, track), partner) != partner
                partners[side, track] = partner
    truth.pairs = {pair: seen for pair, seen in found.items() if len(seen) >= COMMON_MIN}
    return truth


def together(truth: Truth) -> dict[tuple[str, str], set[tuple[str, str]]]:
    """Return for each pair those that are in the picture at the same time: they are other people for sure."""
    when = {pair: {one.frame for one, _ in seen} for pair, seen in truth.pairs.items()}
    return {pair: {other for other in when if other != pair and when[pair] & when[other]} for pair in when}


def _by_frame(seen: Sequence[Seen]) -> dict[int, list[Seen]]:
    found: dict[int, list[Seen]] = defaultdict(list)
    for each in seen:
        found[each.frame].append(each)
    return found


def _same_places(left: Sequence[Seen], right: Sequence[Seen]) -> Iterator[tuple[Seen, Seen]]:
    """Yield the pairs that are each other's best."""
    if not left or not right:
        return
    common = _overlaps(np.stack([seen.box for seen in left]), np.stack([seen.box for seen in right]))
    for row, column in enumerate(common.argmax(axis=1).tolist()):
        if common[row, column] > SAME_MIN and int(common[:, column].argmax()) == row:
            yield left[row], right[column]


def _overlaps(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    low = np.maximum(left[:, None, :2], right[None, :, :2])
    high = np.minimum(left[:, None, 2:], right[None, :, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (left, right)]
    return np.asarray(common / (areas[0][:, None] + areas[1][None, :] - common), np.float32)


@dataclass(frozen=True, slots=True)
class Ranking:
    """How well one camera's people are found again in the other's.

    :param rank1: share of queries whose most alike sighting is the same person
    :param mean_ap: mean average precision
    :param chance: share of right ones among all that were ranked: what a blind guess reaches
    :param queries: how many
    """

    rank1: float
    mean_ap: float
    chance: float
    queries: int


def rank(truth: Truth, describer: str, gap_frames: int, every: int = 5) -> Ranking:
    """Ask the right camera for each person that the left one sees.

    Right are the sightings of the same person at least ``gap_frames`` earlier or later; wrong are those of people who
    were in the picture together with them. Nobody else is ranked: it is not known who they are.
    """
    others, gallery = together(truth), _gallery(truth, describer, every)
    firsts, precisions, chances = [], [], []
    for pair, seen in truth.pairs.items():
        wrong = [gallery[other][1] for other in others[pair]]
        if not wrong:
            continue
        for one, _ in seen[::every]:
            when, vectors = gallery[pair]
            right = vectors[np.abs(when - one.frame) >= gap_frames]
            if not len(right):
                continue
            likes = np.concatenate([right, *wrong]) @ one.vectors[describer]
            is_right = (np.arange(len(likes)) < len(right))[np.argsort(-likes, kind="stable")]
            precision = np.cumsum(is_right) / (np.arange(len(is_right)) + 1)
            firsts.append(bool(is_right[0]))
            precisions.append(float(precision[is_right].mean()))
            chances.append(len(right) / len(likes))
    if not firsts:
        raise BenchError("too few frames: nobody is seen twice")
    return Ranking(float(np.mean(firsts)), float(np.mean(precisions)), float(np.mean(chances)), len(firsts))


def _gallery(truth: Truth, describer: str, every: int) -> dict[tuple[str, str], tuple[NDArray[np.int64], Vector]]:
    return {
        pair: (
            np.array([other.frame for _, other in seen[::every]], np.int64),
            np.stack([other.vectors[describer] for _, other in seen[::every]]),
        )
        for pair, seen in truth.pairs.items()
    }


def tracks_in(seen: Sequence[Seen]) -> int:
    """Return how many tracks there are."""
    return len(Counter(each.track for each in seen))
