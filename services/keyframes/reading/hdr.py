"""Brings HDR pictures to the range and the colours of ordinary screens, so that they look neither grey nor burnt."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from av.video.reformatter import ColorTrc
from numpy.typing import NDArray

TRANSFERS = frozenset({int(ColorTrc.SMPTE2084), int(ColorTrc.ARIB_STD_B67)})  # PQ and HLG
DIFFUSE_WHITE_NITS = 203.0  # ITU-R BT.2408
HLG_PEAK_NITS = 1000.0
# ITU-R BT.2087, linear light
BT2020_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], dtype=np.float32
)
# Light up to this share of white stays as it is; what is brighter approaches white.
KNEE = 0.7
SCREEN_GAMMA = 2.2


def to_sdr(signal: NDArray[np.uint16], transfer: int) -> NDArray[np.uint8]:
    """Return uint8 (H, W, 3) BT.709 RGB of uint16 (H, W, 3) BT.2020 RGB. transfer: one of TRANSFERS."""
    light = cv2.transform(_light_of_signal(transfer)[signal], BT2020_TO_BT709)
    compressed = 1 - (1 - KNEE) * np.exp((KNEE - light) / (1 - KNEE))
    shown = np.where(light > KNEE, compressed, np.maximum(light, 0))
    return np.asarray(np.rint(255 * shown ** (1 / SCREEN_GAMMA)), dtype=np.uint8)


@cache
def _light_of_signal(transfer: int) -> NDArray[np.float32]:
    """Return float32 (65536,): the light of each 16-bit signal; 1 is diffuse white."""
    signal = np.linspace(0, 1, 65536)
    nits = _pq_nits(signal) if transfer == ColorTrc.SMPTE2084 else _hlg_nits(signal)
    return (nits / DIFFUSE_WHITE_NITS).astype(np.float32)


def _pq_nits(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """SMPTE ST 2084, the electro-optical transfer function."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = signal ** (1 / m2)
    return np.asarray(10_000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1))


def _hlg_nits(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """ITU-R BT.2100: the inverse of HLG's camera curve, then the screen's gamma of 1.2, taken for each channel."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return np.asarray(HLG_PEAK_NITS * scene**1.2)
