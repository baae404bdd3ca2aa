"""Who is who from frame to frame in one camera: boxes that overlap where a track is expected.

As in ByteTrack (Zhang and others, ECCV 2022), a box of which the detector is not so sure can go on with a track but
never begins one. What is expected of a track is where it was, moved on as it moved before.

Where two could be meant, as when people cross, the track ends and a new one begins: two tracks of one person are joined
by their looks later on, one track of two people is never parted again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reid.detection import Boxes, Found, overlaps

OVERLAP_MIN = 0.2
DOUBT_MAX = 0.5
"""A box, or a track, may overlap another one at most by so much of what it overlaps its own."""
SMOOTHING = 0.5


@dataclass(slots=True, eq=False)
class Track:
    """One person, as long as the camera sees them.

    :param box: left, top, right, bottom, points, as seen last
    :param velocity: of its corners, points a frame
    :param hits: how often it was seen
    :param frame: when last
    """

    number: int
    box: NDArray[np.float32]
    score: float
    frame: int
    hits: int = 1
    velocity: NDArray[np.float32] = field(default_factory=lambda: np.zeros(4, np.float32))

    def expected(self, frame: int) -> NDArray[np.float32]:
        """Return where it should be, moved by the middle's velocity: a shape that grows on is none."""
        shift = (self.velocity[:2] + self.velocity[2:]) / 2 * (frame - self.frame)
        return np.asarray(self.box + np.concatenate([shift, shift]), np.float32)

    def see(self, box: NDArray[np.float32], score: float, frame: int) -> None:
        """Take what was seen of it."""
        moved = (box - self.box) / max(frame - self.frame, 1)
        weight = SMOOTHING if self.hits > 1 else 1.0
        self.velocity = np.asarray((1 - weight) * self.velocity + weight * moved, np.float32)
        self.box, self.score, self.frame = box, score, frame
        self.hits += 1


class Tracker:
    """The tracks of one camera.

    :param begin_min: the score that a box needs to begin a track
    :param missed_frames_max: a track that was not seen for more frames has ended
    """

    def __init__(self, begin_min: float, missed_frames_max: int) -> None:
        self._begin_min = begin_min
        self._missed_frames_max = missed_frames_max
        self._tracks: list[Track] = []
        self._count = 0

    def follow(self, found: Found, frame: int) -> list[Track]:
        """Return the tracks that are seen in this frame, by number. :param frame: index, ever higher"""
        self._tracks = [track for track in self._tracks if frame - track.frame <= self._missed_frames_max + 1]
        sure = found.scores >= self._begin_min
        free = list(self._tracks)
        left = self._match(free, found, np.flatnonzero(sure), frame)
        self._match(free, found, np.flatnonzero(~sure), frame)
        for index in left:
            self._count += 1
            self._tracks.append(Track(self._count, found.boxes[index], float(found.scores[index]), frame))
        return sorted((track for track in self._tracks if track.frame == frame), key=lambda track: track.number)

    def _match(self, free: list[Track], found: Found, indexes: NDArray[np.intp], frame: int) -> list[int]:
        """Give boxes to tracks, the closest pair first; takes those tracks from ``free``, returns the boxes left."""
        if not free or not len(indexes):
            return [int(index) for index in indexes]
        expected: Boxes = np.stack([track.expected(frame) for track in free])
        close = overlaps(expected, found.boxes[indexes])
        taken: set[int] = set()
        given: set[int] = set()
        for flat in np.argsort(-close, axis=None, kind="stable"):
            row, column = divmod(int(flat), len(indexes))
            if close[row, column] < OVERLAP_MIN:
                break
            if row in taken or column in given:
                continue
            taken.add(row)
            if _is_doubtful(close, row, column):
                self._tracks.remove(free[row])
                continue
            given.add(column)
            index = int(indexes[column])
            free[row].see(found.boxes[index], float(found.scores[index]), frame)
        free[:] = [track for row, track in enumerate(free) if row not in taken]
        return [int(index) for column, index in enumerate(indexes) if column not in given]


def _is_doubtful(close: NDArray[np.float32], row: int, column: int) -> bool:
    """Return whether another track, or another box, could be meant as well."""
    others = np.concatenate([np.delete(close[row], column), np.delete(close[:, column], row)])
    return bool(len(others)) and float(others.max()) > DOUBT_MAX * float(close[row, column])
