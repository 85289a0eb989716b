"""HDR signals come out as the light they stand for: ITU-R BT.2408, table 1."""

from __future__ import annotations

import numpy as np
import pytest
from av.video.reformatter import ColorTrc

from services.keyframes.reading.hdr import to_sdr

PQ, HLG = int(ColorTrc.SMPTE2084), int(ColorTrc.ARIB_STD_B67)


def shown(signal: float, transfer: int) -> int:
    grey = np.full((2, 2, 3), round(65535 * signal), np.uint16)
    picture = to_sdr(grey, transfer)
    assert picture.dtype == np.uint8
    assert np.ptp(picture) <= 1, "grey stays grey"
    return int(picture[0, 0, 1])


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


def test_a_red_of_the_wide_gamut_is_red() -> None:
    red = np.zeros((1, 1, 3), np.uint16)
    red[..., 0] = round(65535 * 0.5)

    r, g, b = to_sdr(red, PQ)[0, 0]

    assert r > 150
    assert max(g, b) == 0
