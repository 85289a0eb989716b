"""i_frames takes what the codec stored whole and decodes nothing else."""

from __future__ import annotations

import pytest

from services.keyframes.extraction import extract
from services.keyframes.reading.frames import VideoReader
from services.keyframes.strategies.i_frames import Parameters


def indexes(path, out_dir, **parameters) -> list[int]:
    return [key_frame.frame_index for key_frame in extract(path, out_dir, "i_frames", parameters).key_frames]


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.webm", "libvpx-vp9"), ("a.ts", "mpeg2video"), ("a.avi", "mpeg4")]
)
def test_every_i_frame_is_taken(name, codec, write_video, numbered_pictures, tmp_path) -> None:
    path = write_video(numbered_pictures(60), name, codec=codec, options={"g": "20", "sc_threshold": "0"})
    with VideoReader(path) as reader:
        expected = [frame.index for frame in reader if frame.is_i_frame]

    assert indexes(path, tmp_path / "out", min_gap_s=0.0) == expected
    assert len(expected) >= 3


def test_a_video_of_nothing_but_i_frames_is_thinned(write_video, numbered_pictures, tmp_path) -> None:
    path = write_video(numbered_pictures(50), options={"g": "1"})

    assert indexes(path, tmp_path / "out") == [0, 13, 26, 39]


def test_frames_and_duration_are_those_of_the_whole_video(write_video, numbered_pictures, tmp_path) -> None:
    path = write_video(numbered_pictures(55), options={"g": "25", "bf": "3"})

    extraction = extract(path, tmp_path / "out", "i_frames")

    assert (extraction.frames, extraction.duration_s) == (55, pytest.approx(2.2))
    (shot,) = extraction.shots
    assert (shot.start_frame, shot.end_frame, shot.start_s, shot.end_s) == (0, 55, 0.0, extraction.duration_s)


@pytest.mark.parametrize("min_gap_s", [-1, 1e9, float("nan")])
def test_a_gap_out_of_range_is_refused_by_name(min_gap_s) -> None:
    with pytest.raises(ValueError, match="min_gap_s"):
        Parameters(min_gap_s=min_gap_s)
