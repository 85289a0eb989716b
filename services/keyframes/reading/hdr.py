"""Brings HDR light to the range of ordinary screens, so that it looks neither grey nor burnt."""

from __future__ import annotations

from functools import cache

import numpy as np
from av.video.reformatter import ColorTrc
from numpy.typing import NDArray

TRANSFERS = frozenset({int(ColorTrc.SMPTE2084), int(ColorTrc.ARIB_STD_B67)})  # PQ and HLG
DIFFUSE_WHITE_NITS = 203.0  # ITU-R BT.2408
HLG_PEAK_NITS = 1000.0
# Light up to this share of white stays as it is; what is brighter approaches white.
KNEE = 0.7


def tone_mapped(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the light of HDR, 1 being diffuse white and any peak above it, as light of at most 1."""
    compressed = 1 - (1 - KNEE) * np.exp((KNEE - np.maximum(light, KNEE)) / (1 - KNEE))
    return np.where(light > KNEE, compressed, light)


@cache
def light_of_signal(transfer: int) -> NDArray[np.float32]:
    """Return float32 (65536,): the light of each 16-bit signal; 1 is diffuse white. transfer: one of TRANSFERS."""
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
