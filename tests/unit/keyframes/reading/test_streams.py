"""Of several videos in a file the one is read that shows moving pictures, whatever the flags say."""

from __future__ import annotations

import random
from pathlib import Path

import av
import pytest

from services.keyframes.extraction import extract
from services.keyframes.reading.frames import Frame, VideoReader
from services.keyframes.reading.limits import DecodeLimits
from shared.errors import ErrorKind, PermanentError


def read(path: Path, i_frames_only: bool = False) -> tuple[VideoReader, list[Frame]]:
    with VideoReader(path, i_frames_only=i_frames_only) as reader:
        return reader, list(reader)


def noise(data: bytes) -> bytes:
    return random.Random(len(data)).randbytes(len(data))


@pytest.fixture
def film(write_video, numbered_pictures) -> Path:
    return write_video(numbered_pictures(60), "film.mp4", options={"g": "12"})


@pytest.fixture
def cover(write_video, texture_of) -> Path:
    return write_video(
        (texture_of(number, 320, 192) for number in (1, 1, 1)), "cover.avi", codec="mjpeg", pixel_format="yuvj420p"
    )


@pytest.mark.parametrize("pictures", [1, 3])
@pytest.mark.parametrize("name", ["a.mkv", "a.mov"])
def test_a_cover_that_is_the_first_track_is_not_the_video(name, pictures, film, cover, write_tracks, number_of) -> None:
    path = write_tracks(name, (cover, pictures, bytes), film)

    reader, frames = read(path)

    assert [number_of(frame.picture.to_ndarray(format="rgb24")) for frame in frames] == list(range(60))
    assert reader.facts.codec == "h264"
    assert reader.facts.other_videos == (0 if pictures == 1 else 1)


def test_a_cover_before_the_film_of_an_avi_which_has_no_presentation_times(
    cover, write_video, numbered_pictures, write_tracks
) -> None:
    film = write_video(numbered_pictures(60), "film.avi", codec="mpeg4")

    reader, frames = read(write_tracks("a.avi", (cover, 1, bytes), film))

    assert (reader.facts.codec, len(frames)) == ("mpeg4", 60)


def test_the_i_frames_are_those_of_the_chosen_video(film, cover, write_tracks) -> None:
    reader, frames = read(write_tracks("a.mkv", (cover, 1, bytes), film), i_frames_only=True)

    assert [frame.index for frame in frames] == [0, 12, 24, 36, 48]
    assert reader.frames_read == 60


def test_a_first_track_that_carries_nothing_is_not_the_video(film, write_tracks) -> None:
    path = write_tracks("a.ts", (film, 0, bytes), film)
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 2

    reader, frames = read(path)

    assert len(frames) == 60
    assert (reader.facts.other_videos, reader.facts.notes) == (0, ())


@pytest.mark.parametrize(("name", "codec"), [("a.ts", "mpeg2video"), ("a.mkv", "libx264"), ("a.mov", "mpeg4")])
def test_a_first_track_that_carries_garbage_is_not_the_video(
    name, codec, write_video, numbered_pictures, write_tracks, number_of
) -> None:
    film = write_video(numbered_pictures(60), "film.mp4", codec=codec)

    _, frames = read(write_tracks(name, (film, 60, noise), film))

    assert [number_of(frame.picture.to_ndarray(format="rgb24")) for frame in frames] == list(range(60))


def test_of_two_videos_the_first_is_read_and_the_other_is_mentioned(
    film, write_video, texture_of, write_tracks
) -> None:
    other = write_video((texture_of(number, 320, 192) for number in range(60)), "other.mp4")

    reader, frames = read(write_tracks("a.mkv", film, other))
    same, _ = read(write_tracks("b.mkv", other, film, film))

    assert (reader.facts.width_px, reader.facts.other_videos, len(frames)) == (160, 1, 60)
    assert (same.facts.width_px, same.facts.other_videos) == (320, 2)
    assert "one further video" in reader.facts.notes[0]
    assert "2 further videos" in same.facts.notes[0]


def test_slow_slides_before_a_fast_camera_are_still_the_first_video(
    film, write_video, texture_of, write_tracks
) -> None:
    slides = write_video(
        (texture_of(number, 320, 192) for number in range(3)), "slides.mp4", ticks=[0, 25, 55], options={"bf": "0"}
    )

    reader, frames = read(write_tracks("a.mkv", slides, film))

    assert (reader.facts.width_px, len(frames)) == (320, 3)


def test_short_videos_are_told_from_covers_too(write_video, numbered_pictures, cover, write_tracks) -> None:
    short = write_video(numbered_pictures(5), "short.mp4")

    assert len(read(write_tracks("a.mkv", (cover, 1, bytes), short))[1]) == 5
    assert len(read(write_tracks("b.mkv", short, short))[1]) == 5


def test_one_picture_is_taken_where_there_is_nothing_else(cover, write_tracks) -> None:
    assert len(read(write_tracks("a.mkv", (cover, 1, bytes), (cover, 1, bytes)))[1]) == 1


def test_two_tracks_of_garbage_are_a_damaged_video(film, write_tracks) -> None:
    with pytest.raises(PermanentError) as caught:
        read(write_tracks("a.mkv", (film, 60, noise), (film, 60, noise)))

    assert caught.value.kind is ErrorKind.DAMAGED


def test_a_limit_holds_for_the_chosen_video(film, cover, write_tracks) -> None:
    path = write_tracks("a.mkv", (cover, 1, bytes), film)

    with pytest.raises(PermanentError) as caught, VideoReader(path, DecodeLimits(max_pixels=100 * 96)):
        pass

    assert caught.value.kind is ErrorKind.TOO_LARGE


def test_the_whole_way_takes_the_video_too(three_shots, cover, write_tracks, tmp_path) -> None:
    extraction = extract(write_tracks("a.mkv", (cover, 1, bytes), three_shots), tmp_path / "out")

    assert (extraction.frames, len(extraction.shots)) == (90, 3)
