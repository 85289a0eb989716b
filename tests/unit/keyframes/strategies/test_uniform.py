"""uniform takes a frame for each multiple of every_s on the stream's own clock."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from services.keyframes.reading.frames import VideoReader
from services.keyframes.strategies.uniform import Parameters, select


def picks(frames, every_s: float) -> tuple[list[int], object]:
    chosen = []

    def run():
        outline = yield from select(iter(frames), Parameters(every_s=every_s))
        return outline

    selection = run()
    while True:
        try:
            chosen.append(next(selection).frame.index)
        except StopIteration as end:
            return chosen, end.value


def read(path):
    with VideoReader(path) as reader:
        return list(reader)


@pytest.mark.parametrize(
    ("every_s", "expected"), [(0.4, [0, 10, 20]), (0.36, [0, 9, 18, 27]), (0.5, [0, 13, 25]), (0.01, list(range(30)))]
)
def test_the_first_frame_at_or_after_each_multiple_is_taken(every_s, expected, write_video, numbered_pictures) -> None:
    assert picks(read(write_video(numbered_pictures(30))), every_s)[0] == expected


def test_a_pause_in_the_video_is_bridged_by_one_frame_and_the_grid_stays(write_video, numbered_pictures) -> None:
    path = write_video(
        numbered_pictures(5), ticks=[0, 500, 5200, 5900, 6100], time_base=Fraction(1, 1000), options={"bf": "0"}
    )

    assert picks(read(path), 1.0)[0] == [0, 2, 4]


def test_a_damaged_frame_is_passed_over(write_video, numbered_pictures) -> None:
    frames = read(write_video(numbered_pictures(30)))
    frames[0] = replace(frames[0], is_corrupt=True)
    frames[10] = replace(frames[10], is_corrupt=True)

    assert picks(frames, 0.4)[0] == [1, 11, 20]


def test_there_is_one_shot_over_everything(write_video, numbered_pictures) -> None:
    frames = read(write_video(numbered_pictures(30)))

    (shot,) = picks(frames, 1.0)[1].shots

    assert (shot.start_frame, shot.end_frame, shot.start_s, shot.end_s) == (0, 30, 0.0, 1.2)


@pytest.mark.parametrize("every_s", [0, -1, 0.001, 1e9, float("nan")])
def test_an_interval_out_of_range_is_refused_by_name(every_s) -> None:
    with pytest.raises(ValueError, match="every_s"):
        Parameters(every_s=every_s)
