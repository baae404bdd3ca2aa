"""Numbers and names as nodes send them."""

from __future__ import annotations

import pytest

from evc.probes.fields import decimal, excerpt, printable, signed, whole


def test_whole_numbers() -> None:
    assert whole("0") == 0
    assert whole("007") == 7
    assert whole("18446744073709551615") == 2**64 - 1
    assert whole("1000", most=1000) == 1000


@pytest.mark.parametrize("text", ["", " 1", "1 ", "+1", "-1", "1_000", "1.0", "1e3", "0x1", "nan", "١٢", "²", "1\n"])
def test_what_is_no_whole_number(text: str) -> None:
    with pytest.raises(ValueError, match="no whole number"):
        whole(text)


@pytest.mark.parametrize("text", ["18446744073709551616", "9" * 21, "9" * 5000])
def test_numbers_beyond_a_counter(text: str) -> None:
    with pytest.raises(ValueError, match="no whole number"):
        whole(text)


def test_signed_numbers() -> None:
    assert signed("-256000") == -256000
    assert signed("41500") == 41500
    for text in ("--1", "-", "- 1", "+1"):
        with pytest.raises(ValueError, match="no whole number"):
            signed(text)


def test_decimal_numbers() -> None:
    assert decimal("0.07", below=1e6) == 0.07
    assert decimal("12", below=1e6) == 12.0


@pytest.mark.parametrize(
    "text",
    ["nan", "inf", "-1.0", "-inf", "", ".5", "1e309", "1000000", "1" * 40, "0x1p3", "1_0", "1e3", "\u0661.0", "1.0\n"],
)
def test_what_is_no_decimal_number(text: str) -> None:
    with pytest.raises(ValueError, match="no number"):
        decimal(text, below=1e6)


def test_names_are_bounded_and_print() -> None:
    assert printable("카메라 eth0", 64) == "카메라 eth0"
    assert printable("a\nb\x00c\x1b[31m\u202e", 64) == "a\ufffdb\ufffdc\ufffd[31m\ufffd"
    assert printable("x" * 100, 64) == "x" * 64


def test_an_excerpt_is_short_and_on_one_line() -> None:
    assert excerpt("a\nb\x00") == r"'a\nb\x00'"
    assert len(excerpt("x" * 1000)) == 62
