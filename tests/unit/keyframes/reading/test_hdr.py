"""HDR signals come out as the light they stand for: ITU-R BT.2408, table 1."""

from __future__ import annotations

import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc

from services.keyframes.reading.colours import on_screen

PQ, HLG = int(ColorTrc.SMPTE2084), int(ColorTrc.ARIB_STD_B67)


def shown(signal: float, transfer: int) -> int:
    picture = VideoFrame.from_ndarray(np.full((8, 8, 3), round(65535 * signal), np.uint16), "rgb48le")
    picture.color_trc, picture.color_primaries = transfer, int(ColorPrimaries.BT2020)
    pixels = on_screen(picture, 8, 8, is_hd=True)
    assert np.ptp(pixels) <= 1, "grey stays grey"
    return int(pixels[4, 4, 1])


@pytest.mark.parametrize(("transfer", "signal"), [(PQ, 0.58), (HLG, 0.75)])
def test_diffuse_white_is_nearly_white(transfer: int, signal: float) -> None:
    assert 230 <= shown(signal, transfer) <= 250


@pytest.mark.parametrize(("transfer", "signal"), [(PQ, 0.38), (HLG, 0.38)])
def test_an_18_percent_grey_card_is_a_middle_grey(transfer: int, signal: float) -> None:
    assert 95 <= shown(signal, transfer) <= 135


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_black_is_black_and_brighter_stays_brighter_and_the_peak_is_white(transfer: int) -> None:
    levels = [shown(signal, transfer) for signal in np.linspace(0, 0.65, 14)]

    assert levels[0] == 0
    assert levels == sorted(set(levels))
    assert shown(1.0, transfer) == 255
