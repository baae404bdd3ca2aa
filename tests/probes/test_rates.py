"""How much a counter grew."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from evc.probes.rates import byte_increase, increase

counters = st.integers(0, 2**64 - 1)


def test_a_counter_that_grew() -> None:
    assert increase(10, 15) == 5
    assert increase(10, 10) == 0
    assert byte_increase(2**40, 2**40 + 7, 1) == 7


def test_a_counter_that_went_down_began_again() -> None:
    assert increase(15, 10) is None


def test_a_32_bit_counter_of_bytes_that_wrapped() -> None:
    assert byte_increase(2**32 - 100, 50, 3) == 150
    assert byte_increase(2**32 - 1, 0, 1) == 1


def test_no_wrap_where_the_packets_went_down_too() -> None:
    assert byte_increase(2**32 - 100, 50, None) is None


def test_no_wrap_of_a_64_bit_counter() -> None:
    assert byte_increase(2**32, 50, 1000) is None


def test_no_wrap_that_so_few_packets_cannot_carry() -> None:
    assert byte_increase(5000, 2000, 10) is None
    assert byte_increase(2**32 - 100, 50, 0) is None


@given(counters, counters, st.none() | counters)
def test_never_negative(previous: int, current: int, packets: int | None) -> None:
    for grown in (increase(previous, current), byte_increase(previous, current, packets)):
        assert grown is None or grown >= 0
