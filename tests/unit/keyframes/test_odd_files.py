"""Files as people have them, whose headers claim something else than they hold: from the file to its key frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from services.keyframes.extraction import Extraction, extract


@pytest.fixture
def read(tmp_path: Path):
    """A function that extracts key frames by the default strategy."""
    return lambda path: extract(path, tmp_path / "out")


def shots(extraction: Extraction) -> list[tuple[int, int]]:
    return [(shot.start_frame, shot.end_frame) for shot in extraction.shots]


THREE_SHOTS = [(0, 30), (30, 60), (60, 90)]


def test_a_cover_as_an_ordinary_first_track(read, three_shots, write_video, texture_of, write_tracks) -> None:
    cover = write_video([texture_of(9)], "cover.avi", codec="mjpeg", pixel_format="yuvj420p")

    extraction = read(write_tracks("a.mkv", cover, three_shots))

    assert shots(extraction) == THREE_SHOTS
    assert len(extraction.key_frames) >= 3


def test_a_first_track_of_a_transport_stream_that_carries_nothing(read, three_shots, write_tracks) -> None:
    assert shots(read(write_tracks("a.ts", (three_shots, 0, bytes), three_shots))) == THREE_SHOTS


def test_slides_in_a_transport_stream(read, write_video, texture_of) -> None:
    starts_s = [0, 12, 40, 43, 90]
    ticks = [25 * start_s + number for start_s in starts_s for number in range(3)]
    slides = (np.asarray(texture_of(slide)) for slide in range(5) for _ in range(3))

    extraction = read(write_video(slides, "slides.ts", ticks=ticks, options={"bf": "0", "g": "1"}))

    assert [shot.start_s for shot in extraction.shots] == pytest.approx(starts_s, abs=0.001)
    assert len(extraction.key_frames) == 5
    assert extraction.duration_s == pytest.approx(90.12)


def test_a_raw_video(read, write_video, texture_of) -> None:
    pictures = (texture_of(index // 30) for index in range(90))

    extraction = read(write_video(pictures, "a.y4m", codec="wrapped_avframe", container="yuv4mpegpipe"))

    assert shots(extraction) == THREE_SHOTS
