"""How fast sightings are linked to identities, beside the least that could be and a loop; a child of the bench."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bench.child import read_order, reply
from evc.identities.gallery import Gallery
from evc.identities.link import BLOCK, Rules, link
from evc.identities.sightings import Sightings

SIZE = 312  # as the model's stripes
NODES = 200
DAY_S = 86_400
BEGIN_TS = 1_700_000_000
NOISE = 0.03  # cosine of a sighting and its identity: 0.88
LOOP = 20
PLACES: dict[int, tuple[float, float] | None] = {
    node: (37.0 + 0.0005 * node, 127.0) for node in range(1, NODES + 1)
}  # 55 m apart
RULES = Rules(similarity_min=0.6, speed_m_per_s=30.0, forget_s=30 * DAY_S)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def _sightings(
    run: int, who: NDArray[np.intp], people: NDArray[np.float32], each: int, span_s: float, begin: float
) -> Sightings:
    """Return ``each`` sightings for every entry of ``who``, a track each."""
    generator = np.random.default_rng(run)
    count = len(who) * each
    noise = NOISE * generator.normal(size=(count, SIZE)).astype(np.float32)
    vectors = _unit(people[np.repeat(who, each)] + noise)
    node = np.repeat(generator.integers(1, NODES + 1, len(who)), each)
    ts = np.repeat(np.sort(generator.uniform(0, span_s, len(who))), each) + np.tile(np.arange(each), len(who))
    track = tuple(str(number) for number in np.repeat(np.arange(len(who)), each))
    return Sightings(np.full(count, run, np.int64), np.arange(count), node, begin + ts, track, vectors)


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _product(left: NDArray[np.float32], right: NDArray[np.float32]) -> None:
    for begin in range(0, len(left), BLOCK):
        left[begin : begin + BLOCK] @ right.T


def _loop(left: NDArray[np.float32], right: NDArray[np.float32]) -> None:
    for one in left:
        max(float(np.dot(one, other)) for other in right)


def main(sightings: int, identities: int) -> dict[str, float]:
    """Measure."""
    generator = np.random.default_rng(0)
    people = _unit(generator.normal(size=(identities, SIZE)).astype(np.float32))
    known = _sightings(1, np.arange(identities), people, 1, 1000.0, BEGIN_TS - 2000)
    gallery = link(Gallery("bench"), known, PLACES, RULES).gallery
    told: dict[str, float] = {"identities": len(gallery.identities)}
    for each in (1, 10):
        who = generator.integers(0, identities, sightings // each)
        seen = _sightings(2, who, people, each, DAY_S, BEGIN_TS)
        told[f"link_{each}_s"] = _timed(lambda seen=seen: link(gallery, seen, PLACES, RULES))  # type: ignore[misc]
    matrix = gallery.matrix(SIZE)
    told["product_s"] = _timed(lambda: _product(seen.vectors, matrix))
    told["loop_s"] = _timed(lambda: _loop(seen.vectors[:LOOP], matrix)) * sightings / LOOP
    return told


if __name__ == "__main__":
    reply(main(**read_order()))
