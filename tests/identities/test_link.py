"""Linking: by looks, by time and place, once, in pieces, late."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evc.errors import InputError
from evc.identities.gallery import Gallery
from evc.identities.link import BLOCK, Linked, Rules, link
from evc.identities.sightings import Sightings
from tests.identities.people import PLACES, TS, looks, sightings, walk

EMPTY = Gallery("test-1")
RULES = Rules(similarity_min=0.8)
ALICE, BOB = looks(2)


def groups(gallery: Gallery) -> set[frozenset[tuple[int, str]]]:
    return {frozenset((visit.run, visit.track) for visit in one.visits) for one in gallery.identities.values()}


def of(linked: Linked) -> list[list[str]]:
    return sorted([visit.track for visit in one.visits] for one in linked.gallery.identities.values())


def test_people_who_walk_from_node_to_node_are_found_again() -> None:
    seen, truth = walk()
    linked = link(EMPTY, seen, PLACES, RULES)
    people = {person: frozenset(key for key, who in truth.items() if who == person) for person in truth.values()}
    assert groups(linked.gallery) == set(people.values())
    first = linked.gallery.identities[1]
    assert [visit.node for visit in first.visits] == [1, 2, 3, 4]
    assert first.visits[0].similarity is None
    assert all(visit.similarity is not None and visit.similarity > 0.8 for visit in first.visits[1:])
    assert (first.begin, first.end, first.sightings) == (TS + 300, TS + 1202, 12)


def test_who_looks_alike_but_could_not_have_come_so_fast_is_another() -> None:
    rows = [(1, 0, 1, 0.0, "a", ALICE), (2, 0, 2, 60.0, "b", ALICE), (3, 0, 3, 400.0, "c", ALICE)]
    linked = link(EMPTY, sightings(rows), PLACES, RULES)  # 500 m in 60 s, then 500 m in 340 s
    assert of(linked) == [["a", "c"], ["b"]]
    assert of(link(EMPTY, sightings(rows), {}, RULES)) == [["a", "b", "c"]]  # nobody knows where the nodes are
    assert of(link(EMPTY, sightings(rows), PLACES, Rules(0.8, speed_m_per_s=20.0))) == [["a", "b", "c"]]


def test_cameras_whose_views_overlap_see_the_same_person_at_once() -> None:
    rows = [(1, 0, 1, 0.0, "a", ALICE), (1, 1, 1, 9.0, "a", ALICE), (2, 0, 2, 4.0, "b", ALICE)]
    near = {1: (37.5, 127.0), 2: (37.5002, 127.0)}  # 22 m
    assert of(link(EMPTY, sightings(rows), near, RULES)) == [["a", "b"]]
    assert of(link(EMPTY, sightings(rows), near, Rules(0.8, reach_m=0.0))) == [["a"], ["b"]]


def test_two_at_once_in_one_picture_are_two() -> None:
    rows = [
        (1, 0, 1, 0.0, "a", ALICE),
        (1, 1, 1, 0.0, "b", ALICE),
        (1, 2, 1, 5.0, "a", ALICE),
        (1, 3, 1, 9.0, "c", ALICE),
    ]
    assert of(link(EMPTY, sightings(rows), PLACES, RULES)) == [["a", "c"], ["b"]]


def test_who_was_away_for_long_is_somebody_new() -> None:
    rows = [(1, 0, 1, 0.0, "a", ALICE), (1, 1, 1, 7200.0, "b", ALICE)]
    assert of(link(EMPTY, sightings(rows), PLACES, RULES)) == [["a", "b"]]
    assert of(link(EMPTY, sightings(rows), PLACES, Rules(0.8, forget_s=3600))) == [["a"], ["b"]]


def test_the_most_alike_pair_comes_first() -> None:
    gallery = link(EMPTY, sightings([(1, 0, 1, 0.0, "a", ALICE)]), PLACES, RULES).gallery
    close = 0.95 * ALICE + 0.3 * BOB
    rows = [(1, 1, 1, 100.0, "worse", close), (1, 2, 1, 101.0, "worse", close), (1, 3, 1, 100.0, "better", ALICE)]
    assert of(link(gallery, sightings(rows), PLACES, RULES)) == [["a", "better"], ["worse"]]


def test_the_same_sightings_again_change_nothing() -> None:
    seen, _ = walk()
    first = link(EMPTY, seen, PLACES, RULES)
    again = link(first.gallery, seen, PLACES, RULES)
    assert again.gallery is first.gallery
    assert (again.changed, again.visits) == ((), ())


def test_a_track_that_goes_on_stays_and_a_gallery_that_was_given_stays_as_it_was() -> None:
    first = link(EMPTY, sightings([(1, 0, 1, 0.0, "a", ALICE)]), PLACES, RULES)
    before = first.gallery.identities[1].total.copy()
    then = link(first.gallery, sightings([(1, 1, 1, 3.0, "a", BOB)]), PLACES, RULES)
    assert of(then) == [["a"]]
    [(identity, visit)] = then.visits
    assert (identity, visit.begin, visit.end, visit.sightings) == (1, TS, TS + 3, 2)
    assert np.array_equal(first.gallery.identities[1].total, before)
    assert first.gallery.identities[1].visits[0].end == TS
    assert EMPTY.identities == {}


def test_late_sightings_are_held_against_what_came_before_and_after() -> None:
    rows = [(1, 0, 1, 0.0, "a", ALICE), (3, 0, 3, 700.0, "c", ALICE)]
    gallery = link(EMPTY, sightings(rows), PLACES, RULES).gallery
    assert len(gallery.identities) == 1
    fits = link(gallery, sightings([(2, 0, 2, 350.0, "b", ALICE)]), PLACES, RULES)
    assert [visit.track for visit in fits.gallery.identities[1].visits] == ["a", "b", "c"]
    assert of(link(gallery, sightings([(2, 0, 2, 600.0, "b", ALICE)]), PLACES, RULES)) == [["a", "c"], ["b"]]


def test_more_than_a_block_and_more_alike_than_can_be_tried() -> None:
    count = BLOCK + 200
    rows = [(1, at, 1, 10.0 * at, f"{at}", ALICE) for at in range(count)]
    assert len(link(EMPTY, sightings(rows), PLACES, RULES).gallery.identities) == 1
    at_once = [(1, at, 1, 0.0, f"{at}", ALICE) for at in range(count)]
    assert len(link(EMPTY, sightings(at_once), PLACES, RULES).gallery.identities) == count


def test_vectors_of_another_describer_are_refused() -> None:
    gallery = link(EMPTY, sightings([(1, 0, 1, 0.0, "a", ALICE)]), PLACES, RULES).gallery
    with pytest.raises(InputError, match="64"):
        link(gallery, sightings([(2, 0, 1, 0.0, "b", ALICE[:32])]), PLACES, RULES)


def test_columns_of_different_lengths_and_rules_out_of_range_are_refused() -> None:
    seen, _ = walk()
    with pytest.raises(InputError):
        Sightings(seen.run, seen.seq, seen.node, seen.ts[:3], seen.track, seen.vectors)
    with pytest.raises(InputError, match="similarity_min"):
        Rules(similarity_min=1.5)


_row = st.tuples(
    st.integers(1, 3), st.integers(1, 4), st.integers(0, 3000), st.sampled_from("abc"), st.integers(0, 3)
)  # run, node, seconds, track, looks


@st.composite
def _many(draw: st.DrawFn) -> Sightings:
    vectors = looks(4)
    rows = draw(st.lists(_row, min_size=1, max_size=40))
    return sightings(
        [(run, at, node, float(ts), track, vectors[who]) for at, (run, node, ts, track, who) in enumerate(rows)]
    )


@given(_many(), st.randoms(use_true_random=False))
def test_the_order_in_which_sightings_come_is_of_no_matter(seen: Sightings, random: object) -> None:
    order = np.random.default_rng(3).permutation(len(seen))
    one, other = link(EMPTY, seen, PLACES, RULES), link(EMPTY, seen.take(order), PLACES, RULES)
    assert groups(one.gallery) == groups(other.gallery)
    assert list(one.gallery.identities) == list(other.gallery.identities)


@given(_many(), st.integers(0, 40))
def test_in_pieces_every_track_has_one_identity_and_nothing_is_counted_twice(seen: Sightings, cut: int) -> None:
    first = link(EMPTY, seen.take(np.arange(min(cut, len(seen)))), PLACES, RULES)
    then = link(first.gallery, seen, PLACES, RULES)
    keys = [(visit.run, visit.track) for one in then.gallery.identities.values() for visit in one.visits]
    assert len(keys) == len(set(keys))
    assert set(keys) == set(zip(seen.run.tolist(), seen.track, strict=True))
    assert sum(one.sightings for one in then.gallery.identities.values()) == len(seen)
    assert groups(first.gallery) <= {
        frozenset(key for key in group if key in first.gallery.tracks()) for group in groups(then.gallery)
    }
    assert link(then.gallery, seen, PLACES, RULES).gallery == then.gallery


@given(_many())
def test_no_link_breaks_time_or_place(seen: Sightings) -> None:
    linked = link(EMPTY, seen, PLACES, RULES)
    for one in linked.gallery.identities.values():
        for at, visit in enumerate(one.visits):
            for other in one.visits[at + 1 :]:
                gap = max(other.begin - visit.end, visit.begin - other.end, 0.0)
                if visit.node == other.node:
                    assert not (visit.begin < other.end and other.begin < visit.end)
                else:
                    metres = 500.4 * abs(visit.node - other.node) - 60
                    assert gap >= metres / RULES.speed_m_per_s - 2
