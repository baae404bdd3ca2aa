"""Embeddings as result lines bear them: float16, little-endian, base64.

Source: IEEE 754 binary16; RFC 4648, section 4. Written by ``include/models/reid/reid/description.py``.
"""

from __future__ import annotations

import base64
import binascii

import numpy as np
from numpy.typing import NDArray

from evc.errors import ParseError

SIZE_MIN, SIZE_MAX = 2, 4096
LENGTH_MIN = 1e-3

Vector = NDArray[np.float32]
Matrix = NDArray[np.float32]


def decode(text: str) -> Vector:
    """Return the D numbers of an embedding, brought to length 1.

    :raises ParseError: no base64, too few or too many numbers, one that is not finite, or all of them about zero
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise ParseError("embedding: not base64") from None
    if len(data) % 2 or not SIZE_MIN <= len(data) // 2 <= SIZE_MAX:
        raise ParseError(f"embedding: {len(data)} bytes, wanted: 2 for each of {SIZE_MIN} to {SIZE_MAX} numbers")
    vector = np.frombuffer(data, "<f2").astype(np.float32)
    length = float(np.sqrt(vector @ vector))
    if not np.isfinite(length) or length < LENGTH_MIN:
        raise ParseError("embedding: not finite, or all zeros")
    return np.asarray(vector / length, np.float32)


def unit(rows: Matrix) -> Matrix:
    """Return rows (N x D), none of zeros, brought to length 1."""
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return np.asarray(rows / np.maximum(lengths, 1e-12)[:, None], np.float32)
