"""Names that every system takes, whatever the video is called."""

from __future__ import annotations

import re
import uuid

import pytest

from services.exports.rows import Row, words

SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
#: Names that Windows keeps for devices, with any suffix.
RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


def row(**changes) -> Row:
    values = {
        "key_frame_id": str(uuid.uuid4()),
        "video_id": str(uuid.uuid4()),
        "title": "A film",
        "source_url": "https://films.example/a.mp4",
        "time_s": 3661.5,
        "frame_index": 1,
        "width_px": 4,
        "height_px": 3,
    }
    return Row(**{**values, **changes})


@pytest.mark.parametrize(
    ("title", "plain"),
    [
        ("A film", "A-film"),
        ("Ä film: ½ of it (2019).mp4", "A-film-1-2-of-it-2019"),
        ("../../etc/passwd", "etc-passwd"),
        ("C:\\windows\\CON", "C-windows-CON"),
        ("日本語", "video"),
        ("日本語 2", "2"),
        ("🎬.mp4", "video"),
        ("", "video"),
        ("...", "video"),
        ("-rf *", "rf"),
        ("a\x00b\x1b[31m\u202ec", "a-b-31m-c"),
        ("x" * 500, "x" * 60),
        ("ab " * 100, "-".join(["ab"] * 20)),
    ],
)
def test_a_title_becomes_words(title, plain):
    assert words(title) == plain


@pytest.mark.parametrize("title", ["con", "NUL.txt", "aux", " ", "a" * 5000, "ünï/cöde\\", "a\nb", "%00", "=1+1", "."])
@pytest.mark.parametrize("cluster", [None, -1, 0, 12345])
def test_every_part_of_a_name_is_safe_on_every_system(title, cluster):
    *folders, name = row(title=title, cluster=cluster).file.split("/")
    stem, dot, suffix = name.partition(".")
    assert (dot, suffix) == (".", "jpg")
    for part in (*folders, stem):
        assert SAFE.fullmatch(part) and not RESERVED.fullmatch(part) and len(part) <= 120
    assert not RESERVED.fullmatch(name)


def test_no_two_key_frames_have_one_name_even_where_case_does_not_count():
    first, second = row(), row()
    assert first.file.lower() != second.file.lower()
    assert first.file == row(key_frame_id=first.key_frame_id.upper()).file


@pytest.mark.parametrize(
    ("changes", "video"),
    [
        ({}, "A film"),
        ({"title": None}, "a.mp4"),
        ({"title": None, "source_url": "https://films.example/a%20b.mp4?signature=secret#t"}, "a b.mp4"),
        ({"title": None, "source_url": "https://films.example/"}, "films.example"),
        ({"title": None, "source_url": "s3://bucket/one/two.mov"}, "two.mov"),
        ({"title": None, "source_url": "http://[broken"}, "[broken"),
        ({"title": None, "source_url": None, "video_id": "the id"}, "the id"),
    ],
)
def test_a_video_is_called_by_its_title_or_address(changes, video):
    assert row(**changes).video == video


@pytest.mark.parametrize(
    ("time_s", "clock"),
    [
        (0, "00h00m00s000"),
        (3661.5, "01h01m01s500"),
        (59.9996, "00h01m00s000"),
        (-1, "00h00m00s000"),
        (4e5, "111h06m40s000"),
    ],
)
def test_the_time_stands_in_the_name(time_s, clock):
    assert f"_{clock}_" in row(time_s=time_s).file
