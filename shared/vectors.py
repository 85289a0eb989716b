"""The wire form of vectors: NumPy on our side, pgvector on the other.

pgvector's text form is fine for a chunk of 256; reading a whole job back goes through its binary form, which is what
`vector_send` gives: int16 dimension, int16 zero, then big-endian float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_HEADER_BYTES = 4


def to_text(vector: npt.ArrayLike) -> str:
    """pgvector's text form of one vector (d,), with every digit that a float32 has."""
    return "[" + ",".join(repr(float(x)) for x in np.asarray(vector, dtype=np.float32)) + "]"


def from_binary(data: bytes | memoryview) -> npt.NDArray[np.float32]:
    """One vector (d,) from what `vector_send` gives."""
    return np.frombuffer(data, dtype=">f4", offset=_HEADER_BYTES).astype(np.float32)


def matrix(rows: Sequence[bytes | memoryview] | Iterable[Any], dimension: int) -> npt.NDArray[np.float32]:
    """X float32 (n, dimension) from rows of binary vectors. Raises ValueError for a row of another dimension."""
    blocks = [from_binary(row) for row in rows]
    for position, block in enumerate(blocks):
        if block.shape != (dimension,):
            raise ValueError(f"vector {position} has {block.size} dimensions, not {dimension}")
    return np.stack(blocks) if blocks else np.empty((0, dimension), np.float32)
