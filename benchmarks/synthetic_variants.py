"""Makes versions of a clip in which every shot lies where it did, but which look or are stored differently."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from services.keyframes.reading.frames import VideoReader
from services.keyframes.reading.pictures import rgb

Rgb = NDArray[np.uint8]
# Large enough for detectors that look at details, small enough to encode quickly.
SOURCE_PX = 480
WIDTH_PX, HEIGHT_PX = 640, 360
TICKS_PER_S = 1000


@dataclass(frozen=True)
class Variant:
    """draw: makes of a frame and its index the frame of the variant. codec, options: how FFmpeg encodes it."""

    name: str
    draw: Callable[[Rgb, int], Rgb] | None = None
    codec: str = "libx264"
    options: tuple[tuple[str, str], ...] = (("preset", "ultrafast"), ("crf", "24"))
    suffix: str = ".mp4"
    gop: int = 250


def make_variant(path: Path, variant: Variant, folder: Path) -> Path:
    """Write a variant of the clip into folder, frame for frame and with its times, and return its path."""
    out = folder / f"{path.stem}_{variant.name}{variant.suffix}"
    with VideoReader(path) as reader, av.open(str(out), "w") as container:
        # A tick is a millisecond: the clips' own times survive, whatever their rate.
        stream = container.add_stream(variant.codec, rate=TICKS_PER_S, options=dict(variant.options))
        stream.codec_context.gop_size = variant.gop
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        last_tick = -1
        for frame in reader:
            picture = rgb(frame.picture, frame.orientation, SOURCE_PX, reader.claimed_pixel_aspect)
            if variant.draw:
                picture = variant.draw(picture, frame.index)
            picture = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
            if frame.index == 0:
                stream.height, stream.width = picture.shape[:2]
            encoded = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            last_tick = max(last_tick + 1, round(frame.time_s * TICKS_PER_S))
            encoded.pts, encoded.time_base = last_tick, Fraction(1, TICKS_PER_S)
            container.mux(stream.encode(encoded))
        container.mux(stream.encode(None))
    return out


def _fit(picture: Rgb, width: int, height: int) -> Rgb:
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def darkened(picture: Rgb, index: int) -> Rgb:
    """A film that plays at night."""
    return (picture * 0.3).astype(np.uint8)


def letterboxed(picture: Rgb, index: int) -> Rgb:
    canvas = np.zeros((HEIGHT_PX, WIDTH_PX, 3), np.uint8)
    canvas[70:290] = _fit(picture, WIDTH_PX, 220)
    return canvas


def framed(picture: Rgb, index: int) -> Rgb:
    """In a decorated frame that never changes, with a title below."""
    canvas = _wallpaper(seed=1)
    cv2.putText(canvas, "THE SHOW", (60, 335), cv2.FONT_HERSHEY_DUPLEX, 1.2, (250, 240, 90), 2)
    canvas[60:280, 130:510] = _fit(picture, 380, 220)
    return canvas


def slides_beside_presenter(picture: Rgb, index: int) -> Rgb:
    """The clip where slides would be, and beside it a person, who moves all the time, before a wall."""
    canvas = np.full((HEIGHT_PX, WIDTH_PX, 3), (205, 205, 210), np.uint8)
    canvas[50:290, 20:440] = _fit(picture, 420, 240)
    x, y = 545 + round(12 * np.sin(index / 9)), 190 + round(5 * np.sin(index / 5))
    cv2.ellipse(canvas, (x, y + 150), (70, 110), 0, 0, 360, (60, 70, 120), -1)
    cv2.circle(canvas, (x, y), 38, (200, 160, 130), -1)
    cv2.circle(canvas, (x - 12, y - 6), 4, (40, 30, 30), -1)
    cv2.circle(canvas, (x + 12, y - 6), 4, (40, 30, 30), -1)
    cv2.ellipse(canvas, (x, y + 16), (12, 2 + index % 7), 0, 0, 360, (120, 40, 40), -1)
    return canvas


def vertical_in_wide(picture: Rgb, index: int) -> Rgb:
    """The middle of the clip as a phone shows it, between still bars."""
    canvas = _wallpaper(seed=2) // 3
    canvas[:, 219:421] = _fit(_middle(picture, 202 / 360), 202, HEIGHT_PX)
    return canvas


def vertical_in_its_own_blur(picture: Rgb, index: int) -> Rgb:
    canvas = cv2.GaussianBlur(_fit(picture, WIDTH_PX, HEIGHT_PX), (0, 0), 18)
    canvas[:, 219:421] = _fit(_middle(picture, 202 / 360), 202, HEIGHT_PX)
    return canvas


def noisy(picture: Rgb, index: int) -> Rgb:
    noise = np.random.default_rng(index).normal(0, 10, picture.shape[:2])[..., None]
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def _middle(picture: Rgb, aspect: float) -> Rgb:
    height, width = picture.shape[:2]
    wanted = min(width, round(height * aspect))
    left = (width - wanted) // 2
    return picture[:, left : left + wanted]


def _wallpaper(seed: int) -> Rgb:
    tiles = np.random.default_rng(seed).integers(0, 256, (18, 32, 3), np.uint8)
    return cv2.resize(tiles, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_CUBIC)


VARIANTS = {
    one.name: one
    for one in (
        Variant("darkened", darkened),
        Variant("letterboxed", letterboxed),
        Variant("framed", framed),
        Variant("slides_beside_presenter", slides_beside_presenter),
        Variant("vertical_in_wide", vertical_in_wide),
        Variant("vertical_in_its_own_blur", vertical_in_its_own_blur),
        Variant("noisy", noisy),
        Variant("h264_gop_12", gop=12),
        Variant("h264_gop_600", gop=600),
        Variant("mpeg4", codec="mpeg4", options=(("qscale", "5"),), gop=12),
        Variant(
            "hevc",
            codec="libx265",
            options=(("preset", "ultrafast"), ("crf", "26"), ("x265-params", "log-level=none:bframes=0")),
        ),
        Variant(
            "vp9",
            codec="libvpx-vp9",
            options=(("deadline", "realtime"), ("cpu-used", "8"), ("crf", "34"), ("b", "0")),
            suffix=".webm",
        ),
    )
}
