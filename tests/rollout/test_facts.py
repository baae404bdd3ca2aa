"""Facts of a node, from what its engine and its shell say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evc.rollout.facts import clock_skew_s, parse_disk


@pytest.mark.parametrize(
    ("said", "free_bytes", "mountpoint"),
    [
        ("space /dev/sda1        41152736 10000  20480000       1% /", 20_480_000 * 1024, "/"),
        ("space overlay 100 40 60 40% /var/lib/docker", 60 * 1024, "/var/lib/docker"),
        ("space //nas/my share 100 40 60 40% /mnt/a b", 60 * 1024, "/mnt/a b"),
        ("space /dev/sda1 100 140 -40 140% /", 0, "/"),
        ("space Filesystem 1024-blocks Used Available Capacity Mounted on", None, ""),
        ("", None, ""),
    ],
)
def test_df_is_read(said: str, free_bytes: int | None, mountpoint: str) -> None:
    assert parse_disk(said, []) == (free_bytes, mountpoint, {})


def test_paths_are_told_in_order_or_not_at_all() -> None:
    said = "space a 1 1 1 1% /\npath 1\npath 0"
    assert parse_disk(said, ["/a", "/b"])[2] == {"/a": True, "/b": False}
    assert parse_disk(said, ["/a", "/b", "/c"])[2] == {}


@given(st.text(), st.lists(st.text(min_size=1, max_size=5), max_size=3))
def test_any_answer_is_read(said: str, paths: list[str]) -> None:
    free_bytes, _, there = parse_disk(said, paths)
    assert free_bytes is None or free_bytes >= 0
    assert set(there) <= set(paths)


@pytest.mark.parametrize(
    ("system_time", "skew_s"),
    [
        ("2026-11-25T18:20:53.953457859Z", 3.953457),
        ("2026-11-25T19:20:50+01:00", 0.0),
        ("2026-11-25T18:20:40.5-00:00", -9.5),
        ("2026-11-25T18:20:53", None),
        ("yesterday", None),
        (None, None),
    ],
)
def test_clocks_are_compared(system_time: object, skew_s: float | None) -> None:
    found = clock_skew_s(system_time, 1_795_630_850.0)
    assert found == (None if skew_s is None else pytest.approx(skew_s, abs=1e-3))
