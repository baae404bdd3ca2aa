"""Tracks: through gaps and crossings, begun only by what the detector is sure of."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reid.detection import Found
from reid.tracking import Tracker

Box = tuple[float, float, float, float]


def found(*people: tuple[float, float, float]) -> Found:
    """Return people of 20 x 50 points: left, top, score."""
    boxes = np.array([(left, top, left + 20, top + 50) for left, top, _ in people], np.float32).reshape(-1, 4)
    return Found(boxes, np.array([score for _, _, score in people], np.float32))


def numbers(tracker: Tracker, seen: Found, frame: int) -> list[int]:
    return [track.number for track in tracker.follow(seen, frame)]


def test_two_who_walk_side_by_side_stay_themselves() -> None:
    tracker = Tracker(0.5, 10)
    for frame in range(30):
        tracks = tracker.follow(found((10 * frame, 0, 0.9), (10 * frame + 25, 5, 0.9)), frame)
        assert [track.number for track in tracks] == [1, 2]


def test_no_track_is_of_two_who_pass_each_other() -> None:
    tracker, who = Tracker(0.5, 10), dict[int, set[bool]]()
    for frame in range(60):
        for track in tracker.follow(found((5 * frame, 0, 0.9), (290 - 5 * frame, 5, 0.9)), frame):
            who.setdefault(track.number, set()).add(bool(track.box[1] == 0))
    assert all(len(people) == 1 for people in who.values())
    assert 4 <= len(who) <= 12


def test_who_is_hidden_for_a_while_is_found_again_where_they_must_be() -> None:
    tracker = Tracker(0.5, 10)
    for frame in range(5):
        assert numbers(tracker, found((12 * frame, 0, 0.9)), frame) == [1]
    for frame in range(5, 13):
        assert numbers(tracker, found(), frame) == []
    assert numbers(tracker, found((12 * 13, 0, 0.9)), 13) == [1]
    assert numbers(tracker, found((12 * 13, 0, 0.9)), 30) == [2]  # away for too long


def test_what_the_detector_doubts_goes_on_with_a_track_and_begins_none() -> None:
    tracker = Tracker(0.5, 10)
    assert numbers(tracker, found((0, 0, 0.4)), 0) == []
    assert numbers(tracker, found((0, 0, 0.6)), 1) == [1]
    assert numbers(tracker, found((2, 0, 0.4), (200, 0, 0.4)), 2) == [1]


_people = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 200), st.sampled_from([0.3, 0.6, 0.9])), max_size=6)


@given(st.lists(_people, max_size=12))
def test_no_track_is_at_two_places_and_no_number_comes_back(frames: list[list[tuple[int, int, float]]]) -> None:
    tracker, last, highest = Tracker(0.5, 2), dict[int, int](), 0
    for frame, people in enumerate(frames):
        tracks = tracker.follow(found(*people), frame)
        given_ = [track.number for track in tracks]
        assert given_ == sorted(set(given_))
        for number in given_:
            assert number > highest or frame - last[number] <= 3
            last[number], highest = frame, max(highest, number)
        sure = sum(score >= 0.5 for _, _, score in people)
        assert sure <= len(tracks) <= len(people)
