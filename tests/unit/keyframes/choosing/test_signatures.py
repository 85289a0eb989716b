from __future__ import annotations

import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from services.keyframes.choosing.layout import Layout
from services.keyframes.choosing.novelty import WHOLE, Box, unexplained
from services.keyframes.choosing.signatures import Signature, difference, from_values, luma_samples, signature


def picture(seed: int, width: int = 320, height: int = 180) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).integers(0, 256, (9, 16, 3)).astype(np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def decoded(rgb: NDArray[np.uint8], pixel_format: str = "yuv420p") -> VideoFrame:
    return VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=pixel_format)


def luma_only(luma: NDArray[np.uint8]) -> Signature:
    return from_values(np.concatenate([luma, np.full((18, 64), 128, np.uint8)]))


@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "yuv422p", "yuv444p", "nv12", "rgb24", "yuv422p10le"])
def test_the_pixel_format_does_not_change_the_signature(pixel_format: str) -> None:
    expected = signature(decoded(picture(1)))
    assert difference(signature(decoded(picture(1), pixel_format)), expected) < 1.0


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (640, 360), (176, 144), (202, 360), (100, 34), (16, 16)])
def test_the_size_of_the_picture_hardly_changes_the_signature(width: int, height: int) -> None:
    expected = signature(decoded(picture(1, 640, 360)))
    resized = cv2.resize(picture(1, 640, 360), (width, height), interpolation=cv2.INTER_AREA)
    seen = signature(decoded(resized))
    assert seen.values.shape == (54, 64)
    assert np.corrcoef(seen.luma.ravel(), expected.luma.ravel())[0, 1] > 0.9


def test_a_blank_picture_has_no_contrast() -> None:
    assert signature(decoded(np.full((90, 160, 3), 77, np.uint8))).contrast < 0.5


def test_full_size_luma_has_eight_bits() -> None:
    samples = luma_samples(decoded(picture(1), "yuv420p10le"))
    assert samples.shape == (180, 320)
    assert samples.dtype == np.uint8


def test_motion_light_and_contrast_bring_nothing_new() -> None:
    wide = cv2.cvtColor(picture(1, 96, 36), cv2.COLOR_RGB2GRAY)
    before = luma_only(np.ascontiguousarray(wide[:, :64]))
    moved = luma_only(np.ascontiguousarray(wide[:, 4:68]))
    dimmed = luma_only((before.luma * 0.4 + 20).astype(np.uint8))
    assert unexplained(before, moved) < 0.1
    assert unexplained(before, dimmed) < 0.1


def test_another_picture_is_new() -> None:
    first, second = (signature(decoded(picture(seed))) for seed in (1, 2))
    assert unexplained(first, second) > 0.4
    assert unexplained(first, first) < 0.01


def test_a_blank_picture_lacks_nothing_that_could_be_seen() -> None:
    blank = luma_only(np.zeros((36, 64), np.uint8))
    assert unexplained(blank, signature(decoded(picture(1)))) == 0.0


def within(canvas_seed: int, inner: NDArray[np.uint8], top: int, left: int) -> Signature:
    canvas = signature(decoded(picture(canvas_seed))).luma.copy()
    canvas[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return luma_only(canvas)


def test_the_layout_is_everything_until_something_changes() -> None:
    layout = Layout()
    for index in range(0, 80, 8):
        layout.feed(index, signature(decoded(picture(1))))
    assert layout.box == WHOLE


def test_a_still_frame_around_the_picture_is_left_out() -> None:
    layout = Layout()
    for index in range(10):
        inner = np.random.default_rng(index).integers(0, 256, (20, 40)).astype(np.uint8)
        layout.feed(index, within(1, inner, 8, 12))
    assert layout.box == Box(top=9, bottom=27, left=13, right=51)


def test_of_two_panels_the_one_that_changes_more_counts() -> None:
    layout = Layout()
    for index in range(10):
        rng = np.random.default_rng(index)
        seen = within(1, rng.integers(0, 256, (24, 36)).astype(np.uint8), 6, 2).luma.copy()
        seen[20:30, 50:60] = rng.integers(0, 256, (10, 10))
        layout.feed(index, luma_only(seen))
    assert layout.box == Box(top=7, bottom=29, left=3, right=37)


def test_something_small_that_moves_is_no_layout() -> None:
    layout = Layout()
    for index in range(10):
        layout.feed(index, within(1, np.random.default_rng(index).integers(0, 256, (8, 8)).astype(np.uint8), 8, 12))
    assert layout.box == WHOLE
