"""Turns decoded frames into pictures as a person sees them: upright, with square pixels, in the colours of a screen."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, Interpolation
from numpy.typing import NDArray

from services.keyframes.reading import hdr

# Unlabelled YUV is BT.709 from this many lines on, BT.601 below, as players assume.
HD_LINES = 720


AVCOL_SPC_UNSPECIFIED = 2


class Orientation(NamedTuple):
    """How a decoded picture becomes upright: swap rows and columns first, then mirror."""

    is_transposed: bool
    is_mirrored_horizontally: bool
    is_mirrored_vertically: bool


def rgb(source: VideoFrame, orientation: Orientation, pixel_aspect: float, max_px: int) -> NDArray[np.uint8]:
    """Return a decoded picture as a person sees it: uint8 (H, W, 3), RGB, upright, square pixels, at most max_px long.

    Of an interlaced frame one field is taken, which removes the combing. HDR is brought to the range of BT.709.
    """
    width, height = source.width * pixel_aspect, float(source.height)
    scale = min(1.0, max_px / max(width, height))
    is_hdr = source.color_trc in hdr.TRANSFERS
    is_unlabelled_hd = source.colorspace == AVCOL_SPC_UNSPECIFIED and source.height >= HD_LINES
    picture = (_first_field(source) if source.interlaced_frame else source).reformat(
        width=max(1, round(width * scale)),
        height=max(1, round(height * scale)),
        format="rgb48le" if is_hdr else "rgb24",
        src_colorspace=Colorspace.ITU709 if is_unlabelled_hd else None,
        interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND,
        threads=1,
    )
    lying: NDArray[Any] = picture.to_ndarray()
    upright = _upright(hdr.to_sdr(lying, source.color_trc) if is_hdr else lying, orientation)
    return np.ascontiguousarray(upright, dtype=np.uint8)


def _upright(picture: NDArray[np.uint8], orientation: Orientation) -> NDArray[np.uint8]:
    if orientation.is_transposed:
        picture = picture.transpose(1, 0, 2)
    if orientation.is_mirrored_horizontally:
        picture = picture[:, ::-1]
    if orientation.is_mirrored_vertically:
        picture = picture[::-1]
    return picture


def orientation_of(picture: VideoFrame) -> Orientation:
    """Read the display matrix, rounded to quarter turns: x' = a x + c y, y' = b x + d y (libavutil/display.h)."""
    # Once a video only: `side_data` ties the picture into a reference cycle, and its megabytes stay until the garbage
    # collector comes by.
    side_data: Any = picture.side_data  # PyAV's type stub knows motion vectors only
    matrix = side_data.get(SideDataType.DISPLAYMATRIX)
    if matrix is None:
        return Orientation(False, False, False)
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), np.int32).tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0)


def _first_field(picture: VideoFrame) -> VideoFrame:
    """Copy every second line of each plane, from the first."""
    field = VideoFrame(picture.width, (picture.height + 1) // 2, picture.format.name)
    field.colorspace, field.color_range = picture.colorspace, picture.color_range
    field.color_trc, field.color_primaries = picture.color_trc, picture.color_primaries
    for source, target in zip(picture.planes, field.planes, strict=True):
        lines = np.frombuffer(memoryview(source), np.uint8).reshape(-1, source.line_size)[::2]
        into = np.frombuffer(memoryview(target), np.uint8).reshape(-1, target.line_size)
        size = min(source.line_size, target.line_size)
        into[: len(lines), :size] = lines[: len(into), :size]
    return field
