from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evc.identities.travel import Travel, distance_m

PLACE = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


@pytest.mark.parametrize(
    ("one", "other", "metres"),
    [
        ((37.5665, 126.9780), (35.1796, 129.0756), 325_100),  # Seoul, Busan
        ((0.0, 0.0), (0.0, 180.0), 20_015_114),
        ((0.0, 179.9), (0.0, -179.9), 22_239),
        ((37.5, 127.0), (37.5, 127.0), 0),
    ],
)
def test_distances(one: tuple[float, float], other: tuple[float, float], metres: float) -> None:
    assert distance_m(one, other) == pytest.approx(metres, rel=2e-3)


def test_the_least_time() -> None:
    travel = Travel({1: (37.5, 127.0), 2: (37.509, 127.0), 3: None}, speed_m_per_s=2.0, reach_m=50.0)
    assert travel.seconds(1, 2) == travel.seconds(2, 1) == pytest.approx((1000.8 - 100) / 2, abs=1)
    assert travel.seconds(1, 3) == travel.seconds(1, 9) == 0


@given(st.lists(PLACE, min_size=2, max_size=6))
def test_no_time_exceeds_the_longest(places: list[tuple[float, float]]) -> None:
    travel = Travel(dict(enumerate(places)), 1.0, 0.0)
    times = [travel.seconds(one, other) for one in range(len(places)) for other in range(len(places))]
    assert max(times) <= travel.longest_s + 1e-6
