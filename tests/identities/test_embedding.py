from __future__ import annotations

import base64
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evc.errors import ParseError
from evc.identities.embedding import decode, unit
from reid.description import encode


@given(arrays(np.float32, st.integers(2, 600), elements=st.floats(-1, 1, width=16)))
def test_what_the_model_writes_is_read(vector: np.ndarray) -> None:
    if np.linalg.norm(vector) < 0.01:
        return
    given_ = vector / np.linalg.norm(vector)
    assert np.allclose(decode(encode(given_)), given_, atol=2e-3)


@pytest.mark.parametrize(
    "text",
    ["", "x", "ä", "AAAA====", encode(np.zeros(8, np.float32)), encode(np.full(8, np.nan, np.float32))]
    + [base64.b64encode(bytes(size)).decode() for size in (1, 2, 3, 2 * 4097)],
)
def test_what_is_no_embedding_is_refused(text: str) -> None:
    with pytest.raises(ParseError, match="embedding"):
        decode(text)


@given(st.text() | st.integers() | st.none())
def test_anything_else_is_an_error_of_ours_or_an_embedding(given_: object) -> None:
    with suppress(ParseError):
        assert np.isclose(np.linalg.norm(decode(given_)), 1, atol=1e-3)  # type: ignore[arg-type]


def test_unit() -> None:
    rows = unit(np.array([[3, 4], [0, 0]], np.float32))
    assert np.allclose(rows, np.array([[0.6, 0.8], [0.0, 0.0]]))
