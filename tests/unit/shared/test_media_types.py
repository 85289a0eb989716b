"""One list of suffixes decides what is looked at, and the reader opens every container in it."""

from __future__ import annotations

import pytest

from services.keyframes.reading.opening import CONTAINERS
from shared.media_types import VIDEO_SUFFIXES, is_video_name


@pytest.mark.parametrize(
    "name",
    ["a.mp4", "GX010042.LRV", "00001.m2t", "phone.3g2", "raw.y4m", "camera.mjpeg", "a/b c.MKV", "/v/track.cmfv"],
)
def test_names_of_videos(name: str) -> None:
    assert is_video_name(name)


@pytest.mark.parametrize(
    "name", ["list.m3u8", "manifest.mpd", "seg-1.m4s", "a.gif", "a.jpg", "a.srt", "a.mp3", "a.zip", "mp4", ".mp4", ""]
)
def test_names_of_other_things(name: str) -> None:
    assert not is_video_name(name)


def test_what_folders_take_is_what_the_reader_opens() -> None:
    assert set(VIDEO_SUFFIXES.values()) <= set(CONTAINERS.split(","))
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in VIDEO_SUFFIXES)
