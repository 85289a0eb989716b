"""Turns decoded frames into pictures as a person sees them: upright, with square pixels, in the colours of a screen."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from services.keyframes.reading import colours
from services.keyframes.reading.filters import filtered

# Pixels are never longer or wider than this, whatever a file says.
MAX_PIXEL_ASPECT = 16
# How finely the shape of a pixel is told.
ASPECT_STEPS = 4096


_CRUMBS = VideoReformatter()


class Orientation(NamedTuple):
    """How a decoded picture becomes upright: swap rows and columns first, then mirror."""

    is_transposed: bool
    is_mirrored_horizontally: bool
    is_mirrored_vertically: bool


UPRIGHT = Orientation(False, False, False)


def rgb(
    picture: VideoFrame, orientation: Orientation, max_px: int, claimed_pixel_aspect: float | None = None
) -> NDArray[np.uint8]:
    """Return a decoded picture as a person sees it: uint8 (H, W, 3), RGB, upright, square pixels, at most max_px long.

    Of an interlaced frame one field is taken, which removes the combing. claimed_pixel_aspect: width / height of a
    pixel by the container, which is believed before the picture itself. Raises PermanentError for unreadable formats.
    """
    width, height = _square_size(picture, claimed_pixel_aspect)
    scale = min(1.0, max_px / max(width, height))
    lying = colours.on_screen(
        filtered(picture, ("field", "type=top")) if picture.interlaced_frame else picture,
        max(1, round(width * scale)),
        max(1, round(height * scale)),
        picture.height >= colours.HD_LINES,
    )
    return np.ascontiguousarray(_upright(lying, orientation))


def longest_side_px(picture: VideoFrame, claimed_pixel_aspect: float | None = None) -> int:
    """Return how long a decoded picture is as a person sees it at full size."""
    return round(max(_square_size(picture, claimed_pixel_aspect)))


def _square_size(picture: VideoFrame, claimed_pixel_aspect: float | None) -> tuple[float, float]:
    """Return width and height of a picture, lying, whose pixels were made square."""
    return picture.width * (claimed_pixel_aspect or pixel_aspect_of(picture)), float(picture.height)


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
    side_data: Any = _crumb(picture).side_data  # PyAV's type stub knows motion vectors only
    matrix = side_data.get(SideDataType.DISPLAYMATRIX)
    if matrix is None:
        return UPRIGHT
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), np.int32).tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0)


def pixel_aspect_of(picture: VideoFrame) -> float:
    """Return width / height of a pixel by the picture itself; 1 where it does not say.

    PyAV tells what the decoder read last, which may belong to a picture that comes out later. FFmpeg's scaler knows the
    picture's own: the width that it makes says it.
    """
    crumb = _crumb(picture)
    graph = Graph()
    graph.threads = 1
    limits = f"{1 / MAX_PIXEL_ASPECT},{MAX_PIXEL_ASPECT}"
    chain = (
        graph.add("buffer", video_size=f"{crumb.width}x{crumb.height}", pix_fmt="gray", time_base="1/1"),
        graph.add("scale", f"w='clip(sar,{limits})*{ASPECT_STEPS}':h=1:eval=frame:flags=neighbor"),
        graph.add("buffersink"),
    )
    graph.link_nodes(*chain).configure()
    graph.vpush(crumb)
    return graph.vpull().width / ASPECT_STEPS


def _crumb(picture: VideoFrame) -> VideoFrame:
    """Return a tiny picture with the properties of a large one.

    To ask for side data ties a picture into a reference cycle: a large one would keep its megabytes until the garbage
    collector comes by.
    """
    return colours.converted(picture, "gray", 16, 2, interpolation=Interpolation.POINT, reformatter=_CRUMBS)
