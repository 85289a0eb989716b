"""Vectors survive the way to Postgres and back, bit for bit."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from shared import vectors


def test_text_keeps_every_bit_of_a_float32():
    vector = np.array([0.1, -1e-30, 3.4e38, 1 / 3], np.float32)
    back = np.array([float(x) for x in vectors.to_text(vector).strip("[]").split(",")], np.float32)
    assert (back == vector).all()


def test_binary_is_a_header_and_big_endian_floats():
    data = struct.pack(">hh3f", 3, 0, 1.0, -2.5, 0.125)
    assert vectors.from_binary(data).tolist() == [1.0, -2.5, 0.125]


def test_a_matrix_of_rows():
    row = struct.pack(">hh2f", 2, 0, 1.0, 2.0)
    X = vectors.matrix([row, row], 2)
    assert X.dtype == np.float32 and X.tolist() == [[1.0, 2.0]] * 2
    assert vectors.matrix([], 5).shape == (0, 5)


def test_a_row_of_another_dimension_is_an_error():
    with pytest.raises(ValueError, match="vector 0 has 2 dimensions, not 3"):
        vectors.matrix([struct.pack(">hh2f", 2, 0, 1.0, 2.0)], 3)
