"""Links that open a source at one second."""

from __future__ import annotations

import pytest

from services.api.source_links import link_at


@pytest.mark.parametrize(
    ("url", "link"),
    [
        ("https://www.youtube.com/watch?v=abc", "https://www.youtube.com/watch?v=abc&t=12"),
        ("https://m.youtube.com/watch?v=abc&t=90s", "https://m.youtube.com/watch?v=abc&t=12"),
        ("https://youtu.be/abc?si=x", "https://youtu.be/abc?si=x&t=12"),
        ("https://www.youtube.com/shorts/abc", "https://www.youtube.com/shorts/abc?t=12"),
        ("https://vimeo.com/123", "https://vimeo.com/123#t=12s"),
        ("https://www.dailymotion.com/video/x1", "https://www.dailymotion.com/video/x1?start=12"),
        ("https://example.org/a.mp4?token=1", "https://example.org/a.mp4?token=1#t=12.345"),
        ("http://127.0.0.1:9/folder/A.WEBM", "http://127.0.0.1:9/folder/A.WEBM#t=12.345"),
        ("https://example.org/watch/7", "https://example.org/watch/7"),
        ("https://notyoutube.com/watch?v=abc", "https://notyoutube.com/watch?v=abc"),
        ("upload:0f0e", None),
    ],
)
def test_a_source_opens_at_the_second_where_its_site_has_a_way_to(url, link):
    assert link_at(url, 12.3454) == link
