from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from services.keyframes.choosing.novelty import WHOLE
from services.keyframes.choosing.selection import KeyFrameChooser, Outline, Pick, are_near_duplicates
from services.keyframes.choosing.shots import Transition
from services.keyframes.choosing.signatures import signature
from services.keyframes.reading.frames import Frame

RATE_HZ = 25
# How late it becomes certain which shot a frame belongs to.
DELAY_FRAMES = 10
Gray = NDArray[np.uint8]


def room(seed: int) -> Gray:
    """A textured still; uint8 (90, 160)."""
    noise = np.random.default_rng(seed).integers(40, 216, (9, 16)).astype(np.uint8)
    return cv2.resize(noise, (160, 90), interpolation=cv2.INTER_CUBIC)


def with_person(background: Gray, seed: int) -> Gray:
    picture = background.copy()
    picture[20:90, 60:110] = room(seed)[20:90, 60:110]
    return picture


def blurred(picture: Gray) -> Gray:
    return cv2.GaussianBlur(picture, (0, 0), 4)


def frame(index: int, picture: Gray, is_corrupt: bool = False) -> Frame:
    decoded = VideoFrame.from_ndarray(np.repeat(picture[..., None], 3, axis=2), "rgb24").reformat(format="yuv420p")
    return Frame(index, index / RATE_HZ, (index + 1) / RATE_HZ, index, index == 0, is_corrupt, decoded)


def choose(
    pictures: Sequence[Gray],
    cuts: Sequence[int] = (),
    view_novelty: float = 0.5,
    duplicate_memory_shots: int = 1,
    corrupt: Sequence[int] = (),
) -> tuple[list[Pick], Outline]:
    chooser = KeyFrameChooser(view_novelty, duplicate_memory_shots)
    for index, picture in enumerate(pictures):
        seen = frame(index, picture, index in corrupt)
        chooser.feed(seen, signature(seen.picture), WHOLE)
        if index - DELAY_FRAMES in cuts:
            cut = index - DELAY_FRAMES
            chooser.end_shot(Transition(cut, cut / RATE_HZ, cut, cut))
        chooser.settle(min([index - DELAY_FRAMES, *(cut for cut in cuts if cut > index - DELAY_FRAMES)]))
    for cut in cuts:
        if cut >= len(pictures) - DELAY_FRAMES:
            chooser.end_shot(Transition(cut, cut / RATE_HZ, cut, cut))
    outline = chooser.finish()
    return chooser.take_chosen(), outline


def indices(picks: Sequence[Pick]) -> list[int]:
    return [pick.frame.index for pick in picks]


def test_every_shot_gets_a_key_frame_of_its_own() -> None:
    picks, outline = choose([room(1)] * 40 + [room(2)] * 40 + [room(3)] * 8, cuts=[40, 80])
    assert [pick.shot_index for pick in picks] == [0, 1, 2]
    for pick, shot in zip(picks, outline.shots, strict=True):
        assert shot.start_frame <= pick.frame.index < shot.end_frame


def test_shots_partition_the_video() -> None:
    _, outline = choose([room(1)] * 40 + [room(2)] * 40, cuts=[40])
    first, second = outline.shots
    assert (first.start_frame, first.end_frame, second.start_frame, second.end_frame) == (0, 40, 40, 80)
    assert (first.start_s, first.end_s, second.start_s, second.end_s) == (0.0, 1.6, 1.6, 3.2)


def test_of_sharp_and_blurred_frames_a_sharp_one_is_taken() -> None:
    pictures = [blurred(room(1))] * 20 + [room(1)] * 20 + [blurred(room(1))] * 20
    picks, _ = choose(pictures)
    assert 20 <= indices(picks)[0] < 40


def test_a_calm_frame_is_taken_from_a_restless_shot() -> None:
    wild = [np.roll(room(1), 9 * index, axis=1) for index in range(20)]
    picks, _ = choose([*wild, *[wild[-1]] * 10, *wild], view_novelty=1.0)
    assert 20 <= indices(picks)[0] < 30


def test_frames_of_a_gradual_transition_are_not_taken() -> None:
    chooser = KeyFrameChooser(0.5, 1)
    for index in range(60):
        seen = frame(index, room(1) if index < 30 else room(2))
        chooser.feed(seen, signature(seen.picture), WHOLE)
    chooser.end_shot(Transition(start_frame=30, start_s=1.2, first_frame=20, end_frame=40))
    chooser.finish()
    first, second = indices(chooser.take_chosen())
    assert first < 20
    assert second >= 40


def test_someone_who_enters_before_a_still_camera_gets_a_key_frame() -> None:
    empty = room(1)
    picks, outline = choose([empty] * 75 + [with_person(empty, 2)] * 75)
    assert len(picks) == 2
    assert indices(picks)[0] < 75 <= indices(picks)[1]
    assert len(outline.shots) == 1


def test_someone_who_leaves_again_adds_nothing() -> None:
    empty = room(1)
    picks, _ = choose([empty] * 75 + [with_person(empty, 2)] * 75 + [empty] * 75)
    assert len(picks) == 2


def test_what_is_seen_for_a_moment_adds_nothing() -> None:
    empty = room(1)
    picks, _ = choose([empty] * 75 + [with_person(empty, 2)] * 6 + [empty] * 75)
    assert len(picks) == 1


def test_a_view_novelty_of_one_means_one_key_frame_a_shot() -> None:
    empty = room(1)
    picks, _ = choose([empty] * 75 + [with_person(empty, 2)] * 75, view_novelty=1.0)
    assert len(picks) == 1


def test_a_near_duplicate_of_the_shot_before_is_dropped_and_remembered() -> None:
    picks, outline = choose([room(1)] * 80, cuts=[40])
    assert len(picks) == 1
    assert outline.repeats == {picks[0].frame.index: ((1.6, 3.2),)}


def test_a_view_that_returns_later_keeps_its_key_frame() -> None:
    pictures = [room(1)] * 40 + [room(2)] * 40 + [room(1)] * 40
    picks, outline = choose(pictures, cuts=[40, 80])
    assert len(picks) == 3
    assert outline.repeats == {}


def test_a_view_that_returns_is_dropped_when_more_shots_are_remembered() -> None:
    pictures = [room(1)] * 40 + [room(2)] * 40 + [room(1)] * 40
    picks, outline = choose(pictures, cuts=[40, 80], duplicate_memory_shots=2)
    assert len(picks) == 2
    assert outline.repeats == {picks[0].frame.index: ((3.2, 4.8),)}


def test_a_blank_shot_gets_no_key_frame_beside_one_with_content() -> None:
    picks, outline = choose([np.zeros((90, 160), np.uint8)] * 40 + [room(1)] * 40, cuts=[40])
    assert [pick.shot_index for pick in picks] == [1]
    assert len(outline.shots) == 2


def test_a_blank_video_gets_its_lightest_frame() -> None:
    pictures = [np.full((90, 160), level, np.uint8) for level in range(0, 120, 2)]
    picks, _ = choose(pictures)
    assert len(picks) == 1
    assert indices(picks)[0] >= 50


def test_damaged_frames_are_taken_only_when_there_is_nothing_else() -> None:
    picks, _ = choose([room(1)] * 40, corrupt=range(35))
    assert indices(picks)[0] >= 35
    picks, _ = choose([room(1)] * 40, corrupt=range(40))
    assert len(picks) == 1


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_the_shortest_video_gets_a_key_frame(frames: int) -> None:
    picks, outline = choose([room(1)] * frames)
    assert len(picks) == 1
    assert outline.shots[0].end_frame == frames


def test_few_frames_wait_while_it_stays_open_which_shot_they_belong_to() -> None:
    chooser = KeyFrameChooser(0.5, 1)
    pictures = [frame(index, room(1)) for index in range(2)]
    for index in range(1000):
        seen = replace(pictures[index % 2], index=index, time_s=index / RATE_HZ)
        chooser.feed(seen, signature(seen.picture), WHOLE)
    held = [one for one in gc.get_objects() if type(one) is Frame]
    assert len(held) < 40


def test_no_frame_gives_no_shot() -> None:
    picks, outline = choose([])
    assert picks == []
    assert outline == Outline(shots=(), repeats={})


def test_near_duplicates_differ_in_noise_and_not_in_content() -> None:
    rng = np.random.default_rng(0)
    noisy = np.clip(room(1) + rng.normal(0, 4, (90, 160)), 0, 255).astype(np.uint8)
    of = [signature(frame(0, picture).picture) for picture in (room(1), noisy, with_person(room(1), 2), room(3))]
    assert are_near_duplicates(of[0], of[1], WHOLE)
    assert not are_near_duplicates(of[0], of[2], WHOLE)
    assert not are_near_duplicates(of[0], of[3], WHOLE)
