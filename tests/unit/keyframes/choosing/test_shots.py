from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from services.keyframes.choosing.shots import ShotDetector, Transition
from services.keyframes.choosing.signatures import from_values

Values = NDArray[np.float32]
RATE_HZ = 25
BLACK = np.concatenate([np.zeros((36, 64)), np.full((18, 64), 128)]).astype(np.float32)
WHITE = np.concatenate([np.full((36, 64), 255), np.full((18, 64), 128)]).astype(np.float32)


def world(seed: int) -> Values:
    """A textured plane larger than the picture; float32 (72, 192), 0..255."""
    noise = np.random.default_rng(seed).integers(0, 256, (15, 40)).astype(np.float32)
    return np.clip(cv2.resize(noise, (192, 72), interpolation=cv2.INTER_CUBIC), 0, 255)


def still(seed: int, left: float = 0.0) -> Values:
    """The values of a signature that shows a world's part from column `left` on; float32 (54, 64)."""
    shift = np.array([[1, 0, -left], [0, 1, 0]], np.float32)
    luma = cv2.warpAffine(world(seed), shift, (64, 36), flags=cv2.INTER_LINEAR)
    chroma = cv2.resize(world(seed + 1000)[:36], (64, 18), interpolation=cv2.INTER_AREA)
    return np.concatenate([luma, chroma])


def hold(picture: Values, frames: int) -> list[Values]:
    return [picture] * frames


def pan(seed: int, frames: int, columns_a_frame: float = 0.7) -> list[Values]:
    return [still(seed, index * columns_a_frame) for index in range(frames)]


def mix(first: Values, last: Values, frames: int) -> list[Values]:
    return [first + (last - first) * (index + 1) / (frames + 1) for index in range(frames)]


def plain(luma: int, cb: int, cr: int) -> Values:
    picture = np.full((54, 64), luma, np.float32)
    picture[36:, :32], picture[36:, 32:] = cb, cr
    return picture


RED, GREEN, BLUE, YELLOW = plain(81, 90, 240), plain(145, 54, 34), plain(41, 240, 110), plain(210, 16, 146)


def recoloured(picture: Values, seed: int) -> Values:
    """The same luma in other colours."""
    return np.concatenate([picture[:36], still(seed)[36:]])


def detect(
    pictures: Sequence[Values], rate_hz: float = RATE_HZ, noise: float = 0.7, times_s: Sequence[float] | None = None
) -> list[Transition]:
    rng = np.random.default_rng(0)
    detector = ShotDetector(cut_novelty=0.2, gradual_novelty=0.45)
    transitions = []
    for index, picture in enumerate(pictures):
        noisy = np.clip(np.round(picture + rng.normal(0, noise, picture.shape)), 0, 255).astype(np.uint8)
        told = detector.feed(index, times_s[index] if times_s else index / rate_hz, from_values(noisy))
        assert all(one.end_frame <= detector.settled_frame for one in told)
        transitions += told
    return transitions + detector.finish()


def starts(pictures: Sequence[Values], rate_hz: float = RATE_HZ) -> list[int]:
    return [transition.start_frame for transition in detect(pictures, rate_hz)]


@pytest.mark.parametrize("rate_hz", [10, 25, 60])
def test_cuts_are_found_at_the_exact_frame(rate_hz: float) -> None:
    pictures = [*hold(still(1), 40), *pan(2, 50), *hold(still(3), 20), *hold(still(4), 40)]
    assert starts(pictures, rate_hz) == [40, 90, 110]


def test_a_transition_tells_the_time_of_its_frame() -> None:
    (cut,) = detect([*hold(still(1), 30), *hold(still(2), 30)])
    assert cut == Transition(start_frame=30, start_s=30 / RATE_HZ, first_frame=30, end_frame=30)


def test_a_cut_between_dark_pictures_is_found() -> None:
    pictures = [picture * 0.15 for picture in [*pan(1, 40), *pan(2, 40)]]
    assert starts(pictures) == [40]


def test_a_cut_within_black_bars_is_found() -> None:
    pictures = [*pan(1, 60), *pan(2, 60), *pan(3, 60)]
    boxed = []
    for picture in pictures:
        canvas = BLACK.copy()
        canvas[10:26] = cv2.resize(picture[:36], (64, 16), interpolation=cv2.INTER_AREA)
        boxed.append(canvas)
    assert starts(boxed) == [60, 120]


def test_a_slide_change_beside_something_that_moves_is_found() -> None:
    slides = [*hold(still(1), 60), *hold(still(2), 60)]
    pictures = []
    for index, slide in enumerate(slides):
        canvas = slide.copy()
        canvas[:36, 44:] = still(3, 5 + 4 * np.sin(index / 4))[:36, 44:]
        pictures.append(canvas)
    assert starts(pictures) == [60]


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_flash_is_no_cut(frames: int) -> None:
    lit = still(1) * 0.3 + WHITE * 0.7
    assert starts([*hold(still(1), 40), *hold(lit, frames), *hold(still(1), 40)]) == []


def test_a_few_other_frames_within_a_shot_are_no_cut() -> None:
    assert starts([*hold(still(1), 40), *hold(still(2), 2), *hold(still(1), 40)]) == []


def test_a_pan_is_no_cut() -> None:
    assert starts(pan(1, 120, columns_a_frame=1.0)) == []


def test_motion_drawn_on_threes_is_no_cut() -> None:
    pictures = [still(1, index // 3 * 3.0) for index in range(110)]
    assert starts(pictures) == []


def test_light_that_changes_is_no_transition() -> None:
    pictures = [still(1) * (0.6 + 0.4 * np.sin(index / 6)) for index in range(120)]
    assert starts(pictures) == []


@pytest.mark.parametrize("frames", [8, 15, 25])
def test_a_dissolve_is_one_transition_with_its_boundary_inside(frames: int) -> None:
    (dissolve,) = detect([*hold(still(1), 50), *mix(still(1), still(2), frames), *hold(still(2), 50)])
    assert 50 <= dissolve.start_frame < 50 + frames
    assert dissolve.first_frame <= dissolve.start_frame <= dissolve.end_frame


def test_a_wipe_is_one_transition_with_its_boundary_inside() -> None:
    first, last = still(1), still(2)
    wipe = []
    for index in range(16):
        canvas, edge = first.copy(), round(64 * (index + 1) / 17)
        canvas[:36, :edge] = last[:36, :edge]
        canvas[36:, : edge // 2] = last[36:, : edge // 2]
        canvas[36:, 32 : 32 + edge // 2] = last[36:, 32 : 32 + edge // 2]
        wipe.append(canvas)
    (found,) = starts([*hold(first, 50), *wipe, *hold(last, 50)])
    assert 50 <= found < 66


@pytest.mark.parametrize("blank", [BLACK, WHITE])
@pytest.mark.parametrize("hold_frames", [0, 5, 100])
def test_a_fade_through_a_blank_is_one_transition(blank: Values, hold_frames: int) -> None:
    fade = [*mix(still(1), blank, 10), *hold(blank, hold_frames), *mix(blank, still(2), 10)]
    (found,) = detect([*hold(still(1), 50), *fade, *hold(still(2), 50)])
    assert 50 <= found.start_frame < 50 + len(fade)


def test_a_cut_to_black_and_back_to_another_picture_is_one_transition() -> None:
    (found,) = starts([*hold(still(1), 50), *hold(BLACK, 10), *hold(still(2), 50)])
    assert 50 <= found <= 60


def test_a_short_blank_within_a_picture_is_no_transition() -> None:
    assert starts([*hold(still(1), 50), *hold(BLACK, 3), *hold(still(1), 50)]) == []


def test_fades_at_the_start_and_the_end_of_a_video_are_no_transitions() -> None:
    pictures = [
        *hold(BLACK, 20), *mix(BLACK, still(1), 20), *hold(still(1), 50), *mix(still(1), BLACK, 20), *hold(BLACK, 20),
    ]  # fmt: skip
    assert starts(pictures) == []


def test_a_cut_just_before_a_fade_stays_a_cut() -> None:
    fade = [*mix(still(2), BLACK, 8), *mix(BLACK, still(3), 8)]
    first, second = starts([*hold(still(1), 50), *hold(still(2), 15), *fade, *hold(still(3), 50)])
    assert first == 50
    assert 65 <= second < 81


@pytest.mark.parametrize("frames", [0, 1, 2, 7])
def test_a_video_of_few_frames_has_no_transition(frames: int) -> None:
    assert starts(hold(still(1), frames)) == []


def test_a_very_dark_stretch_after_a_blank_settles() -> None:
    detector = ShotDetector(cut_novelty=0.2, gradual_novelty=0.45)
    dim = BLACK + (still(2) - 128) * 0.03 + 20
    for index, picture in enumerate([*hold(still(1), 50), *hold(BLACK, 50), *hold(dim, 400)]):
        detector.feed(index, index / RATE_HZ, from_values(np.clip(picture, 0, 255).astype(np.uint8)))
    assert detector.settled_frame > 400


@pytest.mark.parametrize("every_s", [1.0, 3.0, 45.0])
def test_one_frame_a_picture_is_a_shot_each(every_s: float) -> None:
    assert starts([still(seed) for seed in range(12)], 1 / every_s) == list(range(1, 12))


def test_a_frame_stored_only_on_change_is_a_shot_however_uneven_the_times() -> None:
    times_s = [0.0, 3.2, 9.9, 12.1, 30.4, 31.5, 47.0, 60.2, 75.0, 90.0]
    found = detect([still(seed) for seed in range(10)], times_s=times_s)
    assert [one.start_s for one in found] == times_s[1:]


@pytest.mark.parametrize(("rate_hz", "frames"), [(1, 2), (2, 4), (2, 2), (3, 3), (5, 3), (8, 6)])
def test_cuts_are_found_at_low_rates(rate_hz: float, frames: int) -> None:
    pictures = [picture for seed in range(6) for picture in hold(still(seed), frames)]
    assert starts(pictures, rate_hz) == [frames * number for number in range(1, 6)]


@pytest.mark.parametrize("rate_hz", [2, 3, 5, 8])
def test_a_pan_is_no_cut_at_low_rates(rate_hz: float) -> None:
    assert starts(pan(1, 40, columns_a_frame=8 / rate_hz), rate_hz) == []


@pytest.mark.parametrize("between_s", [0.04, 0.3])
def test_two_frames_of_each_picture_make_no_difference(between_s: float) -> None:
    times_s = [5.0 * number + late_s for number in range(6) for late_s in (0, between_s)]
    pictures = [still(number) for number in range(6) for _ in range(2)]
    assert [one.start_frame for one in detect(pictures, times_s=times_s)] == [2, 4, 6, 8, 10]


def test_a_flash_is_over_within_half_a_second_and_a_picture_that_stays_is_none() -> None:
    lit = still(1) * 0.3 + WHITE * 0.7
    assert starts([*hold(still(1), 20), *hold(lit, 3), *hold(still(1), 20)], rate_hz=10) == []
    assert starts([*hold(still(1), 6), *hold(still(2), 2), *hold(still(1), 6)], rate_hz=2) == [6, 8]


@pytest.mark.parametrize(("rate_hz", "frames"), [(25, 50), (5, 5), (1, 1), (1, 3)])
def test_plain_colours_are_shots(rate_hz: float, frames: int) -> None:
    pictures = [picture for colour in (RED, GREEN, BLUE, YELLOW) for picture in hold(colour, frames)]
    assert starts(pictures, rate_hz) == [frames, 2 * frames, 3 * frames]


def test_a_plain_colour_among_pictures_is_a_shot() -> None:
    assert starts([*hold(still(1), 50), *hold(BLUE, 50), *hold(still(2), 50)]) == [50, 100]


@pytest.mark.parametrize(("rate_hz", "frames"), [(25, 40), (2, 3), (1, 1)])
def test_pictures_that_differ_only_in_colour_are_shots(rate_hz: float, frames: int) -> None:
    pictures = [picture for seed in (1, 2, 3) for picture in hold(recoloured(still(1), seed), frames)]
    assert starts(pictures, rate_hz) == [frames, 2 * frames]


def test_plain_colours_that_turn_into_each_other_are_one_transition() -> None:
    (found,) = starts([*hold(RED, 50), *mix(RED, BLUE, 15), *hold(BLUE, 50)])
    assert 50 <= found < 65


def test_a_coloured_flash_is_no_cut() -> None:
    assert starts([*hold(still(1), 40), *hold(RED, 3), *hold(still(1), 40)]) == []


def test_a_tinted_black_is_still_a_blank() -> None:
    black = plain(18, 124, 133)
    fade = [*mix(still(1), black, 10), *hold(black, 30), *mix(black, still(2), 10)]
    assert len(starts([*hold(still(1), 50), *fade, *hold(still(2), 50)])) == 1
    assert starts(hold(black, 100)) == []


def test_a_blank_video_has_no_transition() -> None:
    assert starts(hold(BLACK, 200)) == []


def test_irregular_times_change_nothing_about_cuts() -> None:
    rng = np.random.default_rng(3)
    times_s = np.cumsum(rng.choice([0.02, 0.04, 0.2], 120))
    detector = ShotDetector(cut_novelty=0.2, gradual_novelty=0.45)
    found = []
    for index, picture in enumerate([*pan(1, 60), *pan(2, 60)]):
        found += detector.feed(index, float(times_s[index]), from_values(picture.astype(np.uint8)))
    found += detector.finish()
    assert [(one.start_frame, one.start_s) for one in found] == [(60, times_s[60])]


def test_what_is_remembered_stays_bounded() -> None:
    detector = ShotDetector(cut_novelty=0.2, gradual_novelty=0.45)
    for index in range(3000):
        picture = BLACK if index % 1000 < 500 else still(1)
        detector.feed(index, index / RATE_HZ, from_values(picture.astype(np.uint8)))
    assert detector.settled_frame > 2900
