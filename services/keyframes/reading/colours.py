"""Brings pictures of every pixel format and with every label of colour to the colours of an ordinary screen.

Labels are claims: one that FFmpeg's scaler does not know is read as if there were none, and a note says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType

import cv2
import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter
from numpy.typing import NDArray

from services.keyframes.reading import hdr
from shared.errors import ErrorKind, PermanentError

# Unlabelled YUV is BT.709 from this many lines on, BT.601 below, as players assume.
HD_LINES = 720

# Matrices by their numbers in ITU-T H.273, which FFmpeg uses too
RGB, UNSPECIFIED, ICTCP, IPT_C2 = 0, 2, 14, 15
# Those that FFmpeg's scaler knows, by its own names
SCALER_MATRICES = MappingProxyType(
    {
        1: Colorspace.ITU709,
        4: Colorspace.FCC,
        5: Colorspace.ITU601,
        6: Colorspace.ITU601,
        7: Colorspace.SMPTE240M,
        9: Colorspace.BT2020,
    }
)
OTHER_MATRICES = MappingProxyType(
    {
        8: "YCgCo",
        10: "BT.2020 with constant luminance",
        11: "SMPTE ST 2085",
        12: "derived from the primaries",
        13: "derived from the primaries, with constant luminance",
        16: "YCgCo-Re",
        17: "YCgCo-Ro",
    }
)
# FFmpeg's scaler ends the process over these; of others it says that it does not know them.
DEADLY_FORMATS = frozenset({"yaf32le", "yaf32be"})

_D65, _C, _DCI, _E = (0.3127, 0.329), (0.31, 0.316), (0.314, 0.351), (1 / 3, 1 / 3)
# x and y of red, green, blue and white: ITU-T H.273, table 2
PRIMARIES = MappingProxyType(
    {
        int(ColorPrimaries.BT709): ((0.64, 0.33), (0.3, 0.6), (0.15, 0.06), _D65),
        int(ColorPrimaries.BT470M): ((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), _C),
        int(ColorPrimaries.BT470BG): ((0.64, 0.33), (0.29, 0.6), (0.15, 0.06), _D65),
        int(ColorPrimaries.SMPTE170M): ((0.63, 0.34), (0.31, 0.595), (0.155, 0.07), _D65),
        int(ColorPrimaries.SMPTE240M): ((0.63, 0.34), (0.31, 0.595), (0.155, 0.07), _D65),
        int(ColorPrimaries.FILM): ((0.681, 0.319), (0.243, 0.692), (0.145, 0.049), _C),
        int(ColorPrimaries.BT2020): ((0.708, 0.292), (0.17, 0.797), (0.131, 0.046), _D65),
        int(ColorPrimaries.SMPTE428): ((1.0, 0.0), (0.0, 1.0), (0.0, 0.0), _E),
        int(ColorPrimaries.SMPTE431): ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06), _DCI),
        int(ColorPrimaries.SMPTE432): ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06), _D65),
        int(ColorPrimaries.EBU3213): ((0.63, 0.34), (0.295, 0.605), (0.155, 0.077), _D65),
    }
)
# Cone responses to X, Y and Z, by which a white becomes another (Bradford)
_CONES = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
# ITU-R BT.1886 for video; computers show pictures with less
VIDEO_GAMMA, SCREEN_GAMMA = 2.4, 2.2

# ITU-R BT.2100: BT.2020 light to that of the cones, and the signals of the cones to I, Ct and Cp, for PQ and for HLG
_CONES_OF_BT2020 = np.array([[1688, 2146, 262], [683, 2951, 462], [99, 309, 3688]]) / 4096
_ICTCP_OF_CONES = MappingProxyType(
    {
        int(ColorTrc.SMPTE2084): np.array([[2048, 2048, 0], [6610, -13613, 7003], [17933, -17390, -543]]) / 4096,
        int(ColorTrc.ARIB_STD_B67): np.array([[2048, 2048, 0], [3625, -7465, 3840], [9500, -9212, -288]]) / 4096,
    }
)
# Dolby Vision's IPT: I, P and T to the signals of other cones, which had given 2 % of their light to either neighbour,
# and BT.2020 light to that of these cones
_CONES_OF_IPT = np.array([[8192, 799, 1681], [8192, -933, 1091], [8192, 267, -5545]]) / 8192
_UNMIXED = np.array([[17081, -349, -349], [-349, 17081, -349], [-349, -349, 17081]]) / 16384
_IPT_CONES_OF_BT2020 = np.array([[7222, 8771, 390], [2654, 12430, 1300], [0, 422, 15962]]) / 16384


def on_screen(picture: VideoFrame, width_px: int, height_px: int, is_hd: bool) -> NDArray[np.uint8]:
    """Return a decoded picture, scaled, as a screen shows it: uint8 (height_px, width_px, 3), RGB of BT.709.

    is_hd: whether the picture has as many lines as HD, which decides where no label does. Raises PermanentError.
    """
    if picture.colorspace in (ICTCP, IPT_C2) and not picture.format.is_rgb:
        light, is_hdr = _light_of_cones(picture, width_px, height_px, is_hd), True
    else:
        transfer, is_hdr = _transfer(picture), picture.color_trc in hdr.TRANSFERS
        primaries = _primaries(picture, ColorPrimaries.BT2020 if is_hdr else ColorPrimaries.BT709)
        if transfer is None and primaries == ColorPrimaries.BT709:
            return np.asarray(converted(picture, "rgb24", width_px, height_px, is_hd).to_ndarray(), dtype=np.uint8)
        signal = converted(picture, "rgb48le", width_px, height_px, is_hd).to_ndarray()
        light = np.asarray(cv2.transform(_light_of_signal(transfer)[signal], _to_bt709(primaries)), dtype=np.float32)
    shown, gamma = (hdr.tone_mapped(light), SCREEN_GAMMA) if is_hdr else (light, VIDEO_GAMMA)
    return np.asarray(np.rint(255 * np.clip(shown, 0, 1) ** (1 / gamma)), dtype=np.uint8)


def converted(
    picture: VideoFrame,
    pixel_format: str,
    width_px: int | None = None,
    height_px: int | None = None,
    is_hd: bool | None = None,
    interpolation: Interpolation = Interpolation.BICUBIC | Interpolation.ACCURATE_RND,
    reformatter: VideoReformatter | None = None,
) -> VideoFrame:
    """Return the picture in another pixel format and size. Raises PermanentError for formats that cannot be read.

    reformatter: one that is kept for many pictures saves the time to set one up for each.
    """
    if picture.format.name in DEADLY_FORMATS:
        raise _unreadable(picture)
    matrix = _matrix(picture, picture.height >= HD_LINES if is_hd is None else is_hd)
    is_known_range = picture.color_range in (ColorRange.UNSPECIFIED, ColorRange.MPEG, ColorRange.JPEG)
    try:
        return (reformatter or VideoReformatter()).reformat(
            picture,
            width=width_px,
            height=height_px,
            format=pixel_format,
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=None if is_known_range else ColorRange.MPEG,
            dst_color_range=None if is_known_range else ColorRange.MPEG,
            interpolation=interpolation,
            threads=1,
        )
    except FFmpegError as error:
        raise _unreadable(picture) from error


def notes(picture: VideoFrame) -> tuple[str, ...]:
    """Return what a person should know of the colours of a picture: a sentence for each thing that may be wrong."""
    matrix = picture.colorspace
    if picture.format.is_rgb or matrix in SCALER_MATRICES or matrix in (RGB, UNSPECIFIED, ICTCP, IPT_C2):
        return ()
    used = _matrix(picture, picture.height >= HD_LINES)
    read_as = {Colorspace.ITU709: "BT.709", Colorspace.ITU601: "BT.601", Colorspace.BT2020: "BT.2020"}[used]
    name = OTHER_MATRICES.get(matrix, f"number {matrix}")
    return (
        f"The video says that its colours are coded in a way that cannot be read here (matrix: {name}). They were read "
        f"as {read_as} and may look wrong.",
    )


def _matrix(picture: VideoFrame, is_hd: bool) -> Colorspace:
    if matrix := SCALER_MATRICES.get(picture.colorspace):
        return matrix
    if picture.color_primaries == ColorPrimaries.BT2020:
        return Colorspace.BT2020
    return Colorspace.ITU709 if is_hd else Colorspace.ITU601


def _primaries(picture: VideoFrame, default: ColorPrimaries) -> int:
    # FFmpeg's scaler brings XYZ to BT.709 itself.
    is_known = picture.color_primaries in PRIMARIES and not picture.format.name.startswith("xyz")
    return picture.color_primaries if is_known else int(default)


def _transfer(picture: VideoFrame) -> int | None:
    """Return the transfer whose signals a screen would not show as they are meant; None for all others."""
    transfer = picture.color_trc
    if transfer in hdr.TRANSFERS:
        return transfer
    # With eight bits nobody stores light itself: such a label is wrong.
    is_fine = max(component.bits for component in picture.format.components) > 8
    return transfer if transfer in _SDR_LIGHT and is_fine else None


_SDR_LIGHT: Mapping[int | None, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = MappingProxyType(
    {
        None: lambda signal: signal**VIDEO_GAMMA,
        int(ColorTrc.LINEAR): lambda signal: signal,
        int(ColorTrc.LOG): lambda signal: np.where(signal > 0, 10 ** (2 * (signal - 1)), 0),
        int(ColorTrc.LOG_SQRT): lambda signal: np.where(signal > 0, 10 ** (2.5 * (signal - 1)), 0),
        int(ColorTrc.SMPTE428): lambda signal: 52.37 / 48 * signal**2.6,
    }
)


@cache
def _light_of_signal(transfer: int | None) -> NDArray[np.float32]:
    """Return float32 (65536,): the light of each 16-bit signal; 1 is white."""
    if transfer is not None and transfer in hdr.TRANSFERS:
        return hdr.light_of_signal(transfer)
    return np.asarray(_SDR_LIGHT[transfer](np.linspace(0, 1, 65536)), dtype=np.float32)


@cache
def _to_bt709(primaries: int) -> NDArray[np.float32]:
    """Return float32 (3, 3): light by these primaries to light by those of BT.709; white stays white."""
    xyz, white = _to_xyz(primaries)
    screen_xyz, screen_white = _to_xyz(int(ColorPrimaries.BT709))
    adapted = np.linalg.inv(_CONES) @ np.diag((_CONES @ screen_white) / (_CONES @ white)) @ _CONES
    return np.asarray(np.linalg.inv(screen_xyz) @ adapted @ xyz, dtype=np.float32)


def _to_xyz(primaries: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return float64 (3, 3), light by these primaries to X, Y and Z, and float64 (3,), their white."""
    red, green, blue, white = (
        np.array([x / y, 1, (1 - x - y) / y]) if y else np.array([x, y, 1 - x - y]) for x, y in PRIMARIES[primaries]
    )
    columns = np.stack([red, green, blue], axis=1)
    return columns * np.linalg.solve(columns, white), white


def _light_of_cones(picture: VideoFrame, width_px: int, height_px: int, is_hd: bool) -> NDArray[np.float32]:
    """Return float32 (H, W, 3), BT.709 light, of a picture in ICtCp or IPT."""
    transfer = picture.color_trc if picture.color_trc in hdr.TRANSFERS else int(ColorTrc.SMPTE2084)
    samples = converted(picture, "yuv444p16le", width_px, height_px, is_hd).to_ndarray().astype(np.float32)
    if picture.color_range == ColorRange.JPEG:
        levels = samples / 65535 - [0, 0.5, 0.5]
    else:
        levels = (samples / 256 - [16, 128, 128]) / [219, 224, 224]
    if picture.colorspace == ICTCP:
        to_cones, to_bt2020 = np.linalg.inv(_ICTCP_OF_CONES[transfer]), np.linalg.inv(_CONES_OF_BT2020)
    else:
        to_cones, to_bt2020 = _CONES_OF_IPT, np.linalg.inv(_IPT_CONES_OF_BT2020) @ _UNMIXED
    signal = np.rint(65535 * np.clip(cv2.transform(levels, to_cones), 0, 1)).astype(np.uint16)
    to_bt709 = _to_bt709(int(ColorPrimaries.BT2020)) @ to_bt2020
    return np.asarray(cv2.transform(hdr.light_of_signal(transfer)[signal], to_bt709), dtype=np.float32)


def _unreadable(picture: VideoFrame) -> PermanentError:
    return PermanentError(
        ErrorKind.DAMAGED,
        f"The video's pictures come in a form that cannot be read here (pixel format {picture.format.name}). Convert "
        "it, to H.264 for example, and send that.",
    )
