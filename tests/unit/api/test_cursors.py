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
        ([0, ID], [cursors.distance, cursors.identifier]),
        ([3.4028234e38], [cursors.distance]),
        ([1e-45], [cursors.distance]),
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
        ([3.5e38], [cursors.distance]),
        ([1e-46], [cursors.distance]),
        ([-1e-320], [cursors.distance]),
        ([10**400], [cursors.distance]),
        ([float("-inf")], [cursors.distance]),
        ([True], [cursors.distance]),
        (["0.5"], [cursors.distance]),
        (["inf"], [cursors.distance]),
        ([[1]], [cursors.distance]),
        (["0001-01-01T00:00:00+23:59"], [cursors.time]),
        (["9999-12-31T23:59:59-23:59"], [cursors.time]),
        (["2026-01-02"], [cursors.time]),
        (["2026-13-02T03:04:05+00:00"], [cursors.time]),
        ([None], [cursors.time]),
        ([1e9], [cursors.time]),
        ([["2026-01-02T03:04:05+00:00"]], [cursors.time]),
        ([None], [cursors.identifier]),
        ([1.0], [cursors.whole]),
        ([-(2**31)], [cursors.whole]),
        ([10**400], [cursors.whole]),
    ],
)
def test_what_does_not_fit_the_columns_is_refused_before_it_reaches_the_database(values, readers):
    cursor = base64.urlsafe_b64encode(json.dumps(values).encode()).decode()
    with pytest.raises(Invalid) as refused:
        cursors.decode(cursor, *readers)
    assert refused.value.errors[0][0] == "cursor"


def test_a_time_of_any_offset_is_one_that_postgres_takes():
    cursor = cursors.encode(["2026-01-02T03:04:05+23:59"])
    assert cursors.decode(cursor, cursors.time) == [datetime(2026, 1, 1, 3, 5, 5, tzinfo=UTC)]


@pytest.mark.parametrize("cursor", ["", "ü", "AAA", "[]", "W10", "W1tb" * 3000, "Wy" + "tb" * 5000, "eyJhIjoxfQ=="])
def test_what_is_no_cursor_at_all_is_refused(cursor):
    with pytest.raises(Invalid):
        cursors.decode(cursor, cursors.whole)


def test_a_page_has_a_cursor_only_when_more_comes_after_it():
    assert cursors.cut([1, 2], 2, lambda row: (row,)) == ([1, 2], None)
    rows, cursor = cursors.cut([1, 2, 3], 2, lambda row: (row,))
    assert (rows, cursors.decode(cursor, cursors.whole)) == ([1, 2], [2])
