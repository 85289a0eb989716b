"""A small picture of a frame, cheap to make and to compare: what the search for shots and key frames works on."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

LUMA_HEIGHT_PX, LUMA_WIDTH_PX = 36, 64
CHROMA_HEIGHT_PX, CHROMA_WIDTH_PX = LUMA_HEIGHT_PX // 2, LUMA_WIDTH_PX // 2
# Rows are skipped down to about this many times the signature's: the area filter needs no more, and reading every row
# of a large picture is what a signature would otherwise cost.
ROWS_PER_SIGNATURE_ROW = 2
# OpenCV's area filter is several times faster by whole factors; at most this share of a side is cropped to get there.
MAX_CROP = 0.07

# Below this many levels of contrast a frame is blank.
BLANK_CONTRAST = 1.2

# The planes that can be read in place: 8 or 10..16 bits per sample, each of luma and chroma in a plane of its own.
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

    contrast: standard deviation of the luma, in levels of 255; near 0 for a blank frame.
    """

    values: NDArray[np.uint8]
    contrast: float

    @property
    def luma(self) -> NDArray[np.uint8]:
        """uint8 (36, 64)."""
        return self.values[:LUMA_HEIGHT_PX]


def signature(picture: VideoFrame) -> Signature:
    """Return the signature of a decoded picture; of an interlaced one, of its first field."""
    bits = PLANAR_BITS.get(picture.format.name)
    if bits is None:
        picture = picture.reformat(format="yuv420p")
        bits = 8
    values = np.empty((LUMA_HEIGHT_PX + CHROMA_HEIGHT_PX, LUMA_WIDTH_PX), np.uint8)
    luma, cb, cr = (_samples(picture, index, bits) for index in range(3))
    values[:LUMA_HEIGHT_PX] = _shrink(luma, LUMA_HEIGHT_PX, LUMA_WIDTH_PX, bits)
    values[LUMA_HEIGHT_PX:, :CHROMA_WIDTH_PX] = _shrink(cb, CHROMA_HEIGHT_PX, CHROMA_WIDTH_PX, bits)
    values[LUMA_HEIGHT_PX:, CHROMA_WIDTH_PX:] = _shrink(cr, CHROMA_HEIGHT_PX, CHROMA_WIDTH_PX, bits)
    return from_values(values)


def from_values(values: NDArray[np.uint8]) -> Signature:
    """Return the signature with these values, uint8 (54, 64)."""
    _, deviation = cv2.meanStdDev(values[:LUMA_HEIGHT_PX])
    return Signature(values, float(deviation[0, 0]))


def luma_samples(picture: VideoFrame) -> NDArray[np.uint8]:
    """Return the luma of a decoded picture at full size, uint8 (H, W); of an interlaced one, its first field."""
    bits = PLANAR_BITS.get(picture.format.name)
    if bits is None:
        picture = picture.reformat(format="gray")
        bits = 8
    samples = _samples(picture, 0, bits)
    return samples if bits == 8 else (samples >> (bits - 8)).astype(np.uint8)


def difference(a: Signature, b: Signature) -> float:
    """Return the mean absolute difference of two signatures, in levels of 255."""
    return float(cv2.norm(a.values, b.values, cv2.NORM_L1)) / a.values.size


def _samples(picture: VideoFrame, index: int, bits: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    plane = picture.planes[index]
    kind = np.uint8 if bits == 8 else np.uint16
    samples = np.frombuffer(memoryview(plane), kind).reshape(-1, plane.line_size // kind().itemsize)
    return samples[: plane.height : 2 if picture.interlaced_frame else 1, : plane.width]


def _shrink(samples: NDArray[np.uint8] | NDArray[np.uint16], height: int, width: int, bits: int) -> NDArray[np.uint8]:
    samples = samples[:: max(1, samples.shape[0] // (height * ROWS_PER_SIGNATURE_ROW))]
    rows, columns = samples.shape
    whole_rows, whole_columns = rows // height * height, columns // width * width
    if rows - whole_rows <= MAX_CROP * rows and columns - whole_columns <= MAX_CROP * columns:
        top, left = (rows - whole_rows) // 2, (columns - whole_columns) // 2
        samples = samples[top : top + whole_rows, left : left + whole_columns]
    small = cv2.resize(samples, (width, height), interpolation=cv2.INTER_AREA)
    return small if bits == 8 else (small >> (bits - 8)).astype(np.uint8)
