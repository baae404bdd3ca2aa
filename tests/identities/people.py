"""People who walk between cameras, and what those see of them: with the truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evc.identities.sightings import Sightings

SIZE = 64
TS = 1_700_000_000.0
# a street of nodes, 500 m apart
PLACES = {node: (37.5 + 0.0045 * node, 127.0) for node in range(1, 9)}


def looks(count: int, seed: int = 1, size: int = SIZE) -> np.ndarray:
    """Return vectors of length 1, far from each other."""
    rows = np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def sightings(rows: Sequence[tuple[int, int, int, float, str, np.ndarray]], noise: float = 0.0) -> Sightings:
    """Return sightings of rows: run, seq, node, seconds after TS, track, vector."""
    generator = np.random.default_rng(7)
    vectors = np.array([row[5] for row in rows], np.float32).reshape(len(rows), -1)
    vectors = vectors + noise * generator.normal(size=vectors.shape).astype(np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    run, seq, node = (np.array([row[column] for row in rows], np.int64) for column in range(3))
    ts = np.array([TS + row[3] for row in rows], np.float64)
    return Sightings(run, seq, node, ts, tuple(row[4] for row in rows), vectors)


def walk(
    people: int = 5, nodes: int = 4, seen: int = 3, noise: float = 0.05
) -> tuple[Sightings, dict[tuple[int, str], int]]:
    """Let people walk up the street, one after the other.

    :return: sightings, and by run and track who it is
    """
    rows, truth = [], {}
    vectors = looks(people)
    lines = dict.fromkeys(range(1, nodes + 1), 0)
    events = []
    for person in range(people):
        for node in range(1, nodes + 1):
            begin = 40.0 * person + 300.0 * node
            events += [(begin + step, node, person) for step in range(seen)]
    for at, node, person in sorted(events):
        rows.append((100 + node, lines[node], node, at, f"{person}", vectors[person]))
        truth[100 + node, f"{person}"] = person
        lines[node] += 1
    return sightings(rows, noise), truth
