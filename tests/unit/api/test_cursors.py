"""Opaque cursors."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest

from services.api import cursors
from services.api.problems import Invalid

ID = "0b7d1f70-4b5c-4c9e-9a52-0c1d3c8d9f10"


@pytest.mark.parametrize(
    ("values", "readers"),
    [
        ([datetime(2026, 1, 2, 3, 4, 5, 678901, UTC), ID], [cursors.time, cursors.identifier]),
        ([7], [cursors.whole]),
        ([-7, 0], [cursors.whole, cursors.whole]),
        ([0.1, ID], [cursors.distance, cursors.identifier]),
        ([None, ID], [cursors.distance, cursors.identifier]),
    ],
)
def test_a_cursor_gives_back_the_sort_key_that_it_was_made_of(values, readers):
    assert cursors.decode(cursors.encode(values), *readers) == values


@pytest.mark.parametrize(
    ("values", "readers"),
    [
        ([], [cursors.whole]),
        ([1, 2], [cursors.whole]),
        ({"0": 1}, [cursors.whole]),
        (["1"], [cursors.whole]),
        ([True], [cursors.whole]),
        ([2**31], [cursors.whole]),
        (["2026-01-02T03:04:05"], [cursors.time]),
        ([5], [cursors.time]),
        (["no id"], [cursors.identifier]),
        ([0.5], [cursors.identifier]),
        ([["0"]], [cursors.identifier]),
        ([float("nan")], [cursors.distance]),
        ([1e39], [cursors.distance]),
    ],
)
def test_what_does_not_fit_the_columns_is_refused_before_it_reaches_the_database(values, readers):
    cursor = base64.urlsafe_b64encode(json.dumps(values).encode()).decode()
    with pytest.raises(Invalid) as refused:
        cursors.decode(cursor, *readers)
    assert refused.value.errors[0][0] == "cursor"


def test_a_page_has_a_cursor_only_when_more_comes_after_it():
    assert cursors.cut([1, 2], 2, lambda row: (row,)) == ([1, 2], None)
    rows, cursor = cursors.cut([1, 2, 3], 2, lambda row: (row,))
    assert (rows, cursors.decode(cursor, cursors.whole)) == ([1, 2], [2])
