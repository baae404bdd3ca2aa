from __future__ import annotations

import pytest

from evc.fleet.words import counted


@pytest.mark.parametrize(
    ("count", "noun", "said"),
    [(0, "node", "0 nodes"), (1, "node", "1 node"), (2000, "node", "2,000 nodes"), (2, "address", "2 addresses")],
)
def test_a_count_agrees_with_its_noun(count: int, noun: str, said: str) -> None:
    assert counted(count, noun) == said
