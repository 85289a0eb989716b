"""Makes whole pictures of what a decoder gives: without the container's margins, of full height, opaque, labelled.

Nearly all videos need none of this, and pay nothing for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import av.logging
import numpy as np
from av.container import InputContainer
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc
from av.video.stream import VideoStream
from numpy.typing import NDArray

from services.keyframes.reading import colours
from services.keyframes.reading.filters import filtered

# In these a picture that is marked as interlaced is a single field; in all others it holds both.
CODECS_OF_SINGLE_FIELDS = frozenset({"hevc", "vvc"})
# So many lines are blended at once, which the processor's cache holds.
BLENDED_LINES = 64
DOLBY_VISION_NOTE = (
    "The video is Dolby Vision of a kind whose colours need the settings of each scene. They were read without these "
    "and may look wrong."
)


@dataclass(frozen=True, slots=True)
class Margins:
    """What the container cuts off the pictures, in pixels."""

    left_px: int = 0
    right_px: int = 0
    top_px: int = 0
    bottom_px: int = 0


class Framing:
    """What the container and the codec say of all pictures of a stream. To be made before the first is decoded.

    claimed_pixel_aspect: width / height of a pixel by the container; None where it says nothing else than the codec.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        codec = stream.codec_context
        claimed = stream.sample_aspect_ratio
        self.claimed_pixel_aspect = float(claimed) if claimed and claimed != codec.sample_aspect_ratio else None
        side_data = _side_data(container, stream.index)
        self._margins = _margins(side_data)
        self._has_single_fields = codec.codec.canonical_name in CODECS_OF_SINGLE_FIELDS
        self._labels = {
            "colorspace": codec.colorspace,
            "color_trc": codec.color_trc,
            "color_primaries": codec.color_primaries,
        }
        self._range = codec.color_range
        # Compatible with nothing else: only then a picture cannot be read as the labels say.
        self._is_dolby_vision_alone = bool(re.search(r"DOVI configuration.*compatibility id: 0\b", side_data))
        if self._is_dolby_vision_alone and self._labels["colorspace"] in (colours.UNSPECIFIED, colours.RGB):
            self._labels = {
                "colorspace": colours.IPT_C2,
                "color_trc": int(ColorTrc.SMPTE2084),
                "color_primaries": int(ColorPrimaries.BT2020),
            }

    def whole(self, picture: VideoFrame) -> VideoFrame:
        """Return the picture, or a whole one made of it. Raises PermanentError for unreadable pixel formats."""
        for name, value in self._labels.items():
            if getattr(picture, name) == colours.UNSPECIFIED != value:
                setattr(picture, name, value)
        if not picture.color_range:
            picture.color_range = self._range
        if self._margins:
            picture = cropped(picture, self._margins)
        if picture.interlaced_frame and self._has_single_fields:
            field = filtered(picture, ("setfield", "mode=prog"))
            picture = colours.converted(field, field.format.name, field.width, 2 * field.height)
        return on_white(picture) if _has_alpha(picture.format.name) else picture

    def notes(self, picture: VideoFrame) -> tuple[str, ...]:
        """Return what a person should know of a whole picture."""
        return (*([DOLBY_VISION_NOTE] if self._is_dolby_vision_alone else []), *colours.notes(picture))


def on_white(picture: VideoFrame) -> VideoFrame:
    """Return the picture with what is transparent lying on white; itself where nothing is."""
    is_fine = max(component.bits for component in picture.format.components) > 8
    layers = colours.converted(picture, "rgba64le" if is_fine else "rgba")
    kind = np.dtype(np.uint16 if is_fine else np.uint8)
    samples = _samples(layers, kind, 4)
    white = 65535 if is_fine else 255
    if samples[..., 3].min() == white:
        return picture
    opaque = colours.converted(layers, "rgb48le" if is_fine else "rgb24")  # for the properties that it takes along
    lying = _samples(opaque, kind, 3)
    wide = np.uint32 if is_fine else np.uint16  # a mean of two samples, times white, and half a white just fit
    for first in range(0, picture.height, BLENDED_LINES):
        lines = slice(first, first + BLENDED_LINES)
        alpha = samples[lines, :, 3:].astype(wide)
        lying[lines] = (samples[lines, :, :3] * alpha + white * (white - alpha) + white // 2) // white
    return opaque


@cache
def _has_alpha(pixel_format: str) -> bool:
    form = VideoFormat(pixel_format)
    return form.has_palette or any(component.is_alpha for component in form.components)


def _samples(picture: VideoFrame, kind: np.dtype[Any], channels: int) -> NDArray[Any]:
    """Return a packed picture in place: (H, W, channels)."""
    plane = picture.planes[0]
    rows = np.frombuffer(memoryview(plane), kind).reshape(-1, plane.line_size // kind.itemsize)
    return rows[: picture.height, : picture.width * channels].reshape(picture.height, picture.width, channels)


def cropped(picture: VideoFrame, margins: Margins) -> VideoFrame:
    """Cut the margins off, rounded up to whole samples of colour; not where they leave nothing of this picture."""
    # What 8 luma samples have in chroma samples tells how many share one.
    columns, lines = 8 // picture.format.chroma_width(8), 8 // picture.format.chroma_height(8)
    left, right = _rounded_up(margins.left_px, columns), _rounded_up(margins.right_px, columns)
    top, bottom = _rounded_up(margins.top_px, lines), _rounded_up(margins.bottom_px, lines)
    width, height = picture.width - left - right, picture.height - top - bottom
    if width < columns or height < lines:
        return picture
    return filtered(picture, ("crop", f"w={width}:h={height}:x={left}:y={top}"))


def _rounded_up(length: int, step: int) -> int:
    return -(-length // step) * step


def _side_data(container: InputContainer, index: int) -> str:
    """Return what FFmpeg prints of the side data of a stream, which PyAV does not pass on."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        printed: str = container.dumps_format()  # type: ignore[attr-defined]  # PyAV's type stub lacks it
    finally:
        av.logging.set_level(level)
    stream = re.search(rf"^ *Stream #0:{index}\b(?:.*\n)+?(?= *Stream #|\Z)", printed, re.MULTILINE)
    return stream[0].rpartition("Side data:")[2] if stream else ""


def _margins(side_data: str) -> Margins | None:
    found = re.search(r"Frame [Cc]ropping: (\d+)/(\d+)/(\d+)/(\d+)", side_data)
    margins = Margins(*map(int, found.groups())) if found else Margins()
    return margins if margins != Margins() else None
