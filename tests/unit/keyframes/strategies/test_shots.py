from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from services.keyframes.choosing.selection import Outline, Pick
from services.keyframes.choosing.shots import ShotDetector
from services.keyframes.choosing.signatures import signature
from services.keyframes.reading.frames import Frame, VideoReader
from services.keyframes.strategies import shots
from services.keyframes.strategies.shots import Parameters

Rgb = NDArray[np.uint8]
WriteVideo = Callable[..., Path]


def scene(seed: int) -> Rgb:
    noise = np.random.default_rng(seed).integers(0, 256, (9, 16, 3)).astype(np.uint8)
    return cv2.resize(noise, (160, 96), interpolation=cv2.INTER_CUBIC)


def moving(seed: int, frames: int) -> list[Rgb]:
    return [np.roll(scene(seed), index // 2, axis=1) for index in range(frames)]


def mix(first: Rgb, last: Rgb, frames: int) -> list[Rgb]:
    return [cv2.addWeighted(first, 1 - share, last, share, 0) for share in np.linspace(0, 1, frames + 2)[1:-1]]


def select(path: Path, parameters: Parameters | None = None) -> tuple[list[Pick], Outline]:
    picks = []
    with VideoReader(path) as reader:
        selection = shots.select(iter(reader), parameters or Parameters())
        while True:
            try:
                picks.append(next(selection))
            except StopIteration as stop:
                return picks, stop.value


def covered(picks: Sequence[Pick], segments: Sequence[tuple[int, int]]) -> list[bool]:
    return [any(first <= pick.frame.index <= last for pick in picks) for first, last in segments]


@pytest.mark.parametrize(
    ("codec", "name", "pixel_format"),
    [
        ("libx264", "video.mp4", "yuv420p"),
        ("libx264", "ten_bits.mp4", "yuv420p10le"),
        ("libx264", "full_chroma.mp4", "yuv444p"),
        ("mpeg4", "video.avi", "yuv420p"),
        ("libvpx-vp9", "video.webm", "yuv420p"),
        ("ffv1", "rgb.mkv", "bgr0"),
    ],
)
def test_shots_and_key_frames_fit_whatever_the_codec(
    write_video: WriteVideo, codec: str, name: str, pixel_format: str
) -> None:
    second_take = moving(2, 30)
    pictures = [*moving(1, 40), *second_take, *mix(second_take[-1], scene(4), 14), *moving(4, 40)]
    path = write_video(pictures, name, codec=codec, pixel_format=pixel_format)
    picks, outline = select(path)
    first, second, third = outline.shots
    assert (first.start_frame, second.start_frame) == (0, 40)
    assert third.start_frame == pytest.approx(77, abs=9)
    assert third.end_frame == len(pictures)
    assert covered(picks, [(0, 39), (40, 69), (84, 123)]) == [True] * 3


@pytest.mark.parametrize(
    ("codec", "name"), [("libx264", "slides.mkv"), ("libx264", "slides.ts"), ("mpeg4", "slides.avi")]
)
def test_a_picture_that_stays_is_a_shot_however_few_frames_hold_it(
    write_video: WriteVideo, codec: str, name: str
) -> None:
    """At uneven times; the AVI fills the time between with empty chunks."""
    ticks = [0, 75, 100, 140, 190, 390, 415, 490]
    path = write_video([scene(number) for number in range(8)], name, codec=codec, ticks=ticks)
    picks, outline = select(path)
    assert [shot.start_frame for shot in outline.shots] == list(range(8))
    assert [pick.frame.time_s for pick in picks] == pytest.approx([tick / 25 for tick in ticks], abs=1e-3)


def test_plain_screens_have_a_key_frame_each(write_video: WriteVideo) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]
    path = write_video([np.full((96, 160, 3), colour, np.uint8) for colour in colours for _ in range(30)])
    picks, outline = select(path)
    assert [shot.start_frame for shot in outline.shots] == [0, 30, 60, 90]
    assert [pick.shot_index for pick in picks] == [0, 1, 2, 3]


def test_picks_come_while_the_video_is_read(write_video: WriteVideo) -> None:
    path = write_video([*moving(1, 50), *moving(2, 50), *moving(3, 200)])
    with VideoReader(path) as reader:
        selection = shots.select(iter(reader), Parameters())
        assert next(selection).frame.index < 50
        assert reader.frames_read < 150


def test_few_pictures_are_held_at_any_time(write_video: WriteVideo) -> None:
    held = []

    def watched(frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            if frame.index % 20 == 0:
                held.append(sum(type(one) is Frame for one in gc.get_objects()))
            yield frame

    with VideoReader(write_video(moving(1, 400))) as reader:
        for _ in shots.select(watched(iter(reader)), Parameters()):
            pass
    assert len(held) == 20
    assert max(held) < 25


def test_a_video_of_one_frame_gets_it(write_video: WriteVideo) -> None:
    picks, outline = select(write_video([scene(1)]))
    assert [pick.frame.index for pick in picks] == [0]
    assert len(outline.shots) == 1


def test_a_black_video_gets_one_key_frame(write_video: WriteVideo) -> None:
    picks, outline = select(write_video([np.zeros((96, 160, 3), np.uint8)] * 60))
    assert len(picks) == 1
    assert len(outline.shots) == 1


def test_no_frames_give_no_shots() -> None:
    with pytest.raises(StopIteration) as stopped:
        next(shots.select(iter(()), Parameters()))
    assert stopped.value.value == Outline(shots=(), repeats={})


@pytest.mark.parametrize("field", ["cut_novelty", "gradual_novelty", "view_novelty", "duplicate_memory_shots"])
@pytest.mark.parametrize("value", [-1, 1001])
def test_a_parameter_out_of_range_is_named(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=field):
        Parameters(**{field: value})


@pytest.mark.data
@pytest.mark.parametrize("clip", ["bikes.mp4", "nasa.mp4", "film_vfr.mp4", "cats_at_home.mp4"])
def test_real_clips_have_a_key_frame_in_every_segment(data_dir: Path, clip: str) -> None:
    truth = json.loads((data_dir / "videos" / "ground_truth.json").read_text())[clip]["segments"]
    picks, outline = select(data_dir / "videos" / clip)
    assert all(covered(picks, truth))
    assert len(outline.shots) == len(truth)


def thinned(frames: Iterator[Frame], rate_hz: float) -> Iterator[tuple[int, Frame]]:
    """The frames of a slower video, each with its index in the whole one."""
    index, due_s = 0, 0.0
    for frame in frames:
        if frame.time_s >= due_s - 1e-6:
            yield frame.index, replace(frame, index=index)
            index, due_s = index + 1, due_s + 1 / rate_hz


@pytest.mark.data
@pytest.mark.parametrize(("clip", "rate_hz"), [("street_food_vertical.mp4", 5), ("film_quote_montage.mp4", 3)])
def test_a_film_at_a_low_rate_keeps_nine_tenths_of_its_shots(data_dir: Path, clip: str, rate_hz: float) -> None:
    truth = json.loads((data_dir / "videos" / "ground_truth.json").read_text())[clip]["segments"]
    with VideoReader(data_dir / "videos" / clip) as reader:
        kept = [(index, frame.time_s, signature(frame.picture)) for index, frame in thinned(iter(reader), rate_hz)]
    detector = ShotDetector(cut_novelty=0.2, gradual_novelty=0.45)
    found = [one for index, (_, time_s, seen) in enumerate(kept) for one in detector.feed(index, time_s, seen)]
    boundaries = {one.start_frame for one in found + detector.finish()}
    held = [[index for index, (at, _, _) in enumerate(kept) if first <= at <= last] for first, last in truth]
    starts = [own[0] for own in held if own][1:]
    assert sum(start in boundaries for start in starts) >= 0.9 * len(starts)
    assert len(boundaries - set(starts)) <= 0.25 * len(starts)


@pytest.mark.data
@pytest.mark.parametrize("clip", ["carphone_qcif.mp4", "dog_on_grass.mp4", "sea.mkv", "basketball_01.mpg"])
def test_real_clips_of_one_shot_stay_one(data_dir: Path, clip: str) -> None:
    picks, outline = select(data_dir / "videos" / clip)
    assert len(outline.shots) == 1
    assert picks
