"""How pages write numbers, times and names."""

from datetime import UTC, datetime, timedelta

import pytest

from shared import wording


@pytest.mark.parametrize(
    ("time_s", "written"),
    [(0, "0:00.0"), (12.34, "0:12.3"), (59.99, "0:59.9"), (62.4, "1:02.4"), (3723.4, "1:02:03.4"), (0.3, "0:00.3")],
)
def test_a_moment_of_a_video_is_rounded_down_to_tenths(time_s, written):
    assert wording.clock(time_s) == written


@pytest.mark.parametrize(
    ("duration_s", "written"), [(7.6, "8 s"), (125, "2 min 5 s"), (12_000, "3 h 20 min"), (-1, "0 s")]
)
def test_a_duration_is_written_in_its_two_largest_units(duration_s, written):
    assert wording.span(duration_s) == written


@pytest.mark.parametrize(
    ("age", "written"),
    [
        (timedelta(seconds=-3), "just now"),
        (timedelta(seconds=59), "just now"),
        (timedelta(minutes=3), "3 min ago"),
        (timedelta(hours=5), "5 h ago"),
        (timedelta(days=2), "2 May 2026"),
    ],
)
def test_an_age_becomes_a_date_after_a_day(age, written):
    now = datetime(2026, 5, 4, 12, tzinfo=UTC)
    assert wording.ago(now - age, now) == written


@pytest.mark.parametrize(
    ("part", "written"), [(1, "100 %"), (0.9999, "99.9 %"), (0.97, "97 %"), (0.9721, "97.2 %"), (0, "0 %")]
)
def test_only_all_of_it_is_a_hundred_percent(part, written):
    assert wording.percent(part) == written


def test_counts_agree_with_their_noun():
    assert [wording.count(n, "video") for n in (0, 1, 4210)] == ["0 videos", "1 video", "4,210 videos"]


@pytest.mark.parametrize(("value", "written"), [(12345.6, "12,346"), (0.61421, "0.614"), (-0.05, "-0.050")])
def test_a_quality_has_three_places(value, written):
    assert wording.measure(value) == written


@pytest.mark.parametrize(
    ("title", "url", "name"),
    [
        ("My film", "https://example.org/a.mp4", "My film"),
        (None, "https://example.org/clips/a%20b.mp4?x=1", "a b.mp4"),
        (None, "https://example.org/watch/abc", "https://example.org/watch/abc"),
        ("", "https://example.org", "https://example.org"),
    ],
)
def test_a_source_without_a_title_is_called_as_its_file(title, url, name):
    assert wording.source_name(title, url) == name


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "upload:1", "file:///etc/passwd", "data:text/html,x", "//example.org"]
)
def test_only_web_addresses_become_links(url):
    assert not wording.is_web(url)
    assert wording.is_web("https://example.org/a.mp4")


def test_a_part_that_there_is_not_is_written_as_nothing():
    assert wording.percent(None) == ""


@pytest.mark.parametrize(("value", "words"), [(0, "0 sources"), (1, "1 source"), (1200, "1,200 sources")])
def test_a_number_agrees_with_its_word(value, words):
    assert wording.count(value, "source") == words
