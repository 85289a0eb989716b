"""A small picture of a frame, cheap to make and to compare: what the search for shots and key frames works on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from numpy.typing import NDArray

from services.keyframes.reading.colours import converted

LUMA_HEIGHT_PX, LUMA_WIDTH_PX = 36, 64
CHROMA_HEIGHT_PX, CHROMA_WIDTH_PX = LUMA_HEIGHT_PX // 2, LUMA_WIDTH_PX // 2
# So many rows of the picture make a row of the signature: more would cost much and change little.
ROWS_PER_ROW = 2
# OpenCV's area filter is several times faster by whole factors: at most this share of the width is cropped for one.
MAX_CROP = 0.1

# Below this many levels of contrast a frame is blank.
BLANK_CONTRAST = 1.2
# Black, white and grey have less colour than this, also tinted by film or a bad cable: so many levels from grey.
TINT_LEVELS = 12.0
GREY_CHROMA = np.full((CHROMA_HEIGHT_PX, LUMA_WIDTH_PX), 128, np.uint8)

# The formats whose planes can be read in place, with their bits per sample; the others are converted by swscale.
PLANAR_BITS = {
    "yuv420p": 8,
    "yuvj420p": 8,
    "yuv422p": 8,
    "yuvj422p": 8,
    "yuv444p": 8,
    "yuvj444p": 8,
    "yuv420p10le": 10,
    "yuv422p10le": 10,
    "yuv444p10le": 10,
    "yuv420p12le": 12,
}


@dataclass(frozen=True, slots=True)
class Signature:
    """values: uint8 (54, 64): 36 rows of luma, then 18 rows with Cb on the left and Cr on the right.

    luma_contrast: standard deviation of the luma, in levels of 255. saturation: how far the colours are from grey (root
    mean square), in levels. contrast: both together; near 0 for a blank frame: black, white or grey, tinted or not.
    """

    values: NDArray[np.uint8]
    luma_contrast: float
    saturation: float
    contrast: float

    @property
    def luma(self) -> NDArray[np.uint8]:
        """uint8 (36, 64)."""
        return self.values[:LUMA_HEIGHT_PX]

    @property
    def chroma(self) -> NDArray[np.uint8]:
        """Cb on the left and Cr on the right, uint8 (18, 64)."""
        return self.values[LUMA_HEIGHT_PX:]


def signature(picture: VideoFrame) -> Signature:
    """Return the signature of a decoded picture; of an interlaced one, of its first field."""
    bits = PLANAR_BITS.get(picture.format.name)
    if bits is None:
        picture = converted(picture, "yuv420p")
        bits = 8
    values = np.empty((LUMA_HEIGHT_PX + CHROMA_HEIGHT_PX, LUMA_WIDTH_PX), np.uint8)
    interlaced = picture.interlaced_frame
    luma, cb, cr = (_samples(plane, bits, interlaced) for plane in picture.planes[:3])
    values[:LUMA_HEIGHT_PX] = _shrink(luma, LUMA_HEIGHT_PX, LUMA_WIDTH_PX, bits)
    values[LUMA_HEIGHT_PX:, :CHROMA_WIDTH_PX] = _shrink(cb, CHROMA_HEIGHT_PX, CHROMA_WIDTH_PX, bits)
    values[LUMA_HEIGHT_PX:, CHROMA_WIDTH_PX:] = _shrink(cr, CHROMA_HEIGHT_PX, CHROMA_WIDTH_PX, bits)
    return from_values(values)


def from_values(values: NDArray[np.uint8]) -> Signature:
    """Return the signature with these values, uint8 (54, 64)."""
    luma_contrast = float(cv2.meanStdDev(values[:LUMA_HEIGHT_PX])[1][0, 0])
    saturation = float(cv2.norm(values[LUMA_HEIGHT_PX:], GREY_CHROMA, cv2.NORM_L2)) / math.sqrt(GREY_CHROMA.size / 2)
    return Signature(values, luma_contrast, saturation, contrast(luma_contrast, saturation))


def contrast(luma_contrast: float, saturation: float) -> float:
    """Return how far a picture is from plain grey, in levels of 255. A plain colour is far from it, a tint is not."""
    return math.hypot(luma_contrast, max(0.0, saturation - TINT_LEVELS))


def luma_samples(picture: VideoFrame) -> NDArray[np.uint8]:
    """Return the luma of a decoded picture at full size, uint8 (H, W); of an interlaced one, its first field."""
    bits = PLANAR_BITS.get(picture.format.name)
    if bits is None:
        picture = converted(picture, "gray")
        bits = 8
    return _to_8_bits(_samples(picture.planes[0], bits, picture.interlaced_frame), bits)


def difference(a: Signature, b: Signature) -> float:
    """Return the mean absolute difference of two signatures, in levels of 255."""
    return float(cv2.norm(a.values, b.values, cv2.NORM_L1)) / a.values.size


def _samples(plane: VideoPlane, bits: int, is_interlaced: bool) -> NDArray[Any]:
    """Return a plane, or the first field of it, in place: uint8 or uint16 (H, W)."""
    kind = np.dtype(np.uint8 if bits == 8 else np.uint16)
    samples = np.frombuffer(memoryview(plane), kind).reshape(-1, plane.line_size // kind.itemsize)
    return samples[: plane.height : 2 if is_interlaced else 1, : plane.width]


def _shrink(samples: NDArray[Any], height: int, width: int, bits: int) -> NDArray[np.uint8]:
    samples = samples[_spread(samples.shape[0], height * ROWS_PER_ROW)]
    columns = samples.shape[1]
    spare = columns % width
    if spare <= MAX_CROP * columns:
        samples = samples[:, spare // 2 : columns - (spare - spare // 2)]
    return _to_8_bits(cv2.resize(samples, (width, height), interpolation=cv2.INTER_AREA), bits)


@lru_cache(maxsize=16)
def _spread(length: int, count: int) -> NDArray[np.intp] | slice:
    """Return count indices, evenly spread over a length; a slice, which copies nothing, where one gives the same."""
    if length % count == 0:
        step = length // count
        return slice(step // 2, None, step)
    return (np.arange(count) * 2 + 1) * length // (2 * count)


def _to_8_bits(samples: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    return np.asarray(samples >> (bits - 8) if bits > 8 else samples, np.uint8)
