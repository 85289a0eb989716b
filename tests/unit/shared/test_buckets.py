from __future__ import annotations

import pytest

from shared.buckets import BucketPlace, is_bucket_name, parse_place


@pytest.mark.parametrize(
    ("text", "is_name"),
    [
        ("abc", True),
        ("my-bucket.1", True),
        ("a" * 63, True),
        ("ab", False),
        ("a" * 64, False),
        ("a..b", False),
        ("-ab", False),
        ("ab.", False),
        ("Pictures", False),
        ("büro", False),
        ("a/b", False),
        ("abc\n", False),
        ("", False),
    ],
)
def test_a_bucket_is_called_as_aws_allows(text: str, is_name: bool) -> None:
    assert is_bucket_name(text) is is_name


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("pictures", ("pictures", "")),
        (" pictures/ ", ("pictures", "")),
        ("pictures/reelmap/one", ("pictures", "reelmap/one/")),
    ],
)
def test_a_place_is_read_as_a_bucket_and_a_prefix(text: str, place: tuple[str, str]) -> None:
    assert parse_place(text) == place


@pytest.mark.parametrize("text", ["", "/a", "a..b", "bucket//a", "bucket/../a", "bucket/.", "bucket/a b"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_place(text)


@pytest.mark.parametrize(
    ("one", "other", "do_overlap"),
    [
        ("pictures", "pictures", True),
        ("pictures", "pictures/reelmap", True),
        ("pictures/reelmap/uploads", "pictures/reelmap", True),
        ("pictures/reelmap", "pictures/reelmap-videos", False),
        ("pictures", "videos", False),
    ],
)
def test_places_overlap_where_one_lies_in_the_other(one: str, other: str, do_overlap: bool) -> None:
    assert parse_place(one).overlaps(parse_place(other)) is do_overlap
    assert parse_place(other).overlaps(parse_place(one)) is do_overlap


def test_a_place_holds_what_lies_below_it_and_nothing_beside_it() -> None:
    place = BucketPlace("shared", "videos/")
    assert place.holds("shared", "videos/a.mp4")
    assert not place.holds("shared", "videos-secret/a.mp4")
    assert not place.holds("other", "videos/a.mp4")
