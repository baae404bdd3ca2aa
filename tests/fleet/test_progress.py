"""Progress of a pull or push, from messages as engines send them, and from any others."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from evc.fleet.progress import Layer, Progress, Snapshot

BASE, TOP = "9032111b4e5c", "0e9918f6f8f1"
LAYERS = [Layer(f"sha256:{BASE}{'0' * 52}", 1_000_000), Layer(f"sha256:{TOP}{'0' * 52}", 3_000_000)]


def message(name: str, status: str, current: int | None = None, total: int | None = None) -> dict[str, Any]:
    detail = {} if current is None else {"current": current, "total": total}
    return {"id": name, "status": status, "progressDetail": detail}


def pull(progress: Progress, *steps: tuple[str, str, int, int]) -> None:
    for second, (name, status, current, total) in enumerate(steps):
        progress.feed(message(name, status, current, total), float(second))


def test_a_pull_from_its_first_message_to_its_last() -> None:
    progress = Progress(LAYERS)
    assert (progress.bytes_done, progress.bytes_total) == (0, 4_000_000)
    pull(progress, (BASE, "Pulling fs layer", 0, 0), (TOP, "Waiting", 0, 0), (BASE, "Downloading", 250_000, 1_000_000))
    assert progress.bytes_done == 250_000
    pull(progress, (BASE, "Verifying Checksum", 0, 0), (TOP, "Downloading", 600_000, 3_000_000))
    assert progress.bytes_done == 1_600_000
    pull(progress, (BASE, "Extracting", 500_000, 1_000_000))
    assert progress.snapshot().line == (
        "1.6 of 4.0 MB, 0.7 MB/s, 0 of 2 layers done, 9032111b4e5c unpacking 50%, 0e9918f6f8f1 downloading 0.6/3.0"
    ).replace("0.7 MB/s", f"{(progress.snapshot().rate_bytes_per_s or 0) / 1e6:.1f} MB/s")
    pull(progress, (BASE, "Pull complete", 0, 0), (TOP, "Download complete", 0, 0), (TOP, "Pull complete", 0, 0))
    assert progress.bytes_done == progress.bytes_total == 4_000_000
    assert "2 of 2 layers done" in progress.snapshot().line


def test_layers_that_are_there_already_count_as_done() -> None:
    progress = Progress(LAYERS)
    pull(progress, (BASE, "Already exists", 0, 0))
    assert progress.bytes_done == 1_000_000


def test_without_a_manifest_the_total_grows_with_what_is_seen() -> None:
    progress = Progress()
    assert progress.bytes_total is None
    assert progress.snapshot().line.startswith("nothing yet")
    pull(progress, (BASE, "Downloading", 1, 1_000_000), (TOP, "Downloading", 1, 3_000_000))
    assert progress.bytes_total == 4_000_000


def test_a_layer_that_is_fetched_again_begins_anew() -> None:
    progress = Progress(LAYERS)
    pull(progress, (TOP, "Downloading", 2_000_000, 3_000_000), (TOP, "Retrying in 5 seconds", 0, 0))
    assert progress.bytes_done == 0
    assert f"{TOP} retrying" in progress.snapshot().line


def test_a_push_counts_what_it_sends() -> None:
    progress = Progress()
    pull(progress, (BASE, "Preparing", 0, 0), (TOP, "Layer already exists", 0, 0), (BASE, "Pushing", 700, 1000))
    assert (progress.bytes_done, progress.bytes_total) == (700, 1000)
    pull(progress, (BASE, "Pushed", 0, 0))
    assert progress.bytes_done == 1000


def test_a_line_comes_every_few_seconds_not_at_every_message() -> None:
    progress = Progress(LAYERS)
    snapshots = [
        progress.feed(message(TOP, "Downloading", 10_000 * tick, 3_000_000), tick / 10) for tick in range(1, 301)
    ]
    seen = [snapshot for snapshot in snapshots if snapshot]
    assert len(seen) == 5
    assert [round(snapshot.rate_bytes_per_s or 0, -4) for snapshot in seen[:2]] == [100_000, 100_000]


def test_what_is_no_layer_is_none() -> None:
    progress = Progress()
    for name, status in (("latest", "Pulling from reid"), (BASE, "Pulling from reid"), (f"{BASE}aa", "Downloading")):
        progress.feed(message(name, status, 5, 10), 0.0)
    assert progress.bytes_total is None
    assert "0 of 0 layers" in progress.snapshot().line


def test_a_hundred_layers_make_one_short_line() -> None:
    progress = Progress()
    for number in range(5000):
        progress.feed(message(f"{number:012x}", "Downloading", 1, 2), 0.0)
    assert len(progress.snapshot().line) < 400


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
statuses = st.sampled_from(
    [
        "Pulling fs layer",
        "Waiting",
        "Downloading",
        "Verifying Checksum",
        "Download complete",
        "Extracting",
        "Pull complete",
        "Already exists",
        "Retrying in 3 seconds",
        "Pushing",
        "Pushed",
    ]
)
engine_messages = st.fixed_dictionaries(
    {
        "id": st.sampled_from([BASE, TOP, "ffffffffffff"]) | anything,
        "status": statuses | anything,
        "progressDetail": st.fixed_dictionaries({"current": st.integers() | anything, "total": anything}) | anything,
    }
)


@given(st.lists(engine_messages, max_size=60), st.booleans())
def test_whatever_comes_the_counts_stay_counts(messages: list[dict[str, Any]], knows: bool) -> None:
    progress = Progress(LAYERS if knows else [])
    for second, it in enumerate(messages):
        snapshot = progress.feed(it, float(second))
        assert snapshot is None or isinstance(snapshot, Snapshot)
        assert progress.bytes_done >= 0
        if knows:
            assert (progress.bytes_total or 0) >= 4_000_000
    last = progress.snapshot()
    assert "\n" not in last.line
    assert last.rate_bytes_per_s is None or last.rate_bytes_per_s >= 0
