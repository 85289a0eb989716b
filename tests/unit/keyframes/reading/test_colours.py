"""Whatever a video says of its colours, its pictures come out as a screen shows them, or a sentence says why not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from av.video.format import VideoFormat, names
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, ColorTrc

from services.keyframes.choosing.signatures import luma_samples, signature
from services.keyframes.extraction import extract
from services.keyframes.reading import colours
from services.keyframes.reading.colours import notes, on_screen
from services.keyframes.reading.framing import on_white
from services.keyframes.reading.pictures import UPRIGHT, rgb
from shared.errors import ErrorKind, PermanentError

RED = (200, 30, 30)
EVERY_NUMBER = (*range(24), 255)
PQ, HLG = int(ColorTrc.SMPTE2084), int(ColorTrc.ARIB_STD_B67)


def coloured(colour: tuple[int, int, int] = RED, pixel_format: str = "yuv420p", **labels: int) -> VideoFrame:
    """A picture of one colour by BT.601, whatever its labels say."""
    picture = VideoFrame.from_ndarray(np.full((32, 32, 3), colour, np.uint8), "rgb24").reformat(format=pixel_format)
    for name, value in labels.items():
        setattr(picture, name, value)
    return picture


def shown(picture: VideoFrame) -> np.ndarray:
    pixels = on_screen(picture, 16, 16, is_hd=False)
    assert pixels.shape == (16, 16, 3)
    assert pixels.dtype == np.uint8
    return pixels[8, 8].astype(int)


@pytest.mark.parametrize("matrix", EVERY_NUMBER)
def test_every_matrix_gives_a_red_picture_and_a_word_where_it_was_not_believed(matrix) -> None:
    for pixel_format in ("yuv420p", "nv12", "yuv444p10le", "gbrp", "gray"):
        picture = coloured(pixel_format=pixel_format, colorspace=matrix)
        seen = shown(picture)
        signature(picture)
        if matrix not in (colours.ICTCP, colours.IPT_C2) and pixel_format != "gray":
            assert np.abs(seen - RED).max() <= 20
    is_believed = matrix in {0, 1, 2, 4, 5, 6, 7, 9, colours.ICTCP, colours.IPT_C2}
    assert (notes(coloured(colorspace=matrix)) == ()) == is_believed
    assert notes(coloured(pixel_format="gbrp", colorspace=matrix)) == ()


@pytest.mark.parametrize("transfer", EVERY_NUMBER)
def test_every_transfer_gives_a_picture(transfer) -> None:
    for pixel_format in ("yuv420p", "yuv444p16le", "gbrp"):
        assert shown(coloured(pixel_format=pixel_format, color_trc=transfer)).argmax() == 0


@pytest.mark.parametrize("primaries", EVERY_NUMBER)
@pytest.mark.parametrize("transfer", [int(ColorTrc.BT709), PQ, HLG])
def test_every_primaries_give_a_picture_whose_grey_stays_grey(primaries, transfer) -> None:
    labels = {"color_primaries": primaries, "color_trc": transfer}

    assert shown(coloured(**labels)).argmax() == 0
    assert np.ptp(shown(coloured((120, 120, 120), **labels))) <= 2


@pytest.mark.parametrize("sample_range", range(5))
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p", "rgb24", "gray", "yuv420p10le"])
def test_a_range_that_is_labelled_wrongly_changes_shades_and_no_more(sample_range, pixel_format) -> None:
    picture = coloured((128, 128, 128), pixel_format, color_range=sample_range)

    assert np.abs(shown(picture) - 128).max() <= 10


def is_in_memory(pixel_format: str) -> bool:
    try:
        VideoFrame(32, 32, pixel_format)
    except ValueError:
        return False  # lives on a graphics card
    return True


@pytest.mark.parametrize("pixel_format", [name for name in sorted(names) if is_in_memory(name)])
def test_every_pixel_format_gives_a_picture_or_a_sentence(pixel_format) -> None:
    picture = VideoFrame(32, 32, pixel_format)
    try:
        whole = on_white(picture) if any(part.is_alpha for part in VideoFormat(pixel_format).components) else picture
        assert rgb(whole, UPRIGHT, 16).shape == (16, 16, 3)
        assert signature(whole).values.shape == (54, 64)
        assert luma_samples(whole).shape == (32, 32)
    except PermanentError as error:
        assert error.kind is ErrorKind.DAMAGED
        assert pixel_format in error.message
        assert pixel_format.startswith(("bgr4", "rgb4", "gbrap32", "gray32", "rgb96", "rgba128", "rgbaf32", "yaf32",
                                        "v30x", "x2", "xv30be", "y21"))  # fmt: skip


def to_bt2020(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """By the matrix of ITU-R BT.2087, in the light of a screen with gamma 2.4."""
    matrix = [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
    return tuple(np.rint(255 * (matrix @ (np.array(colour) / 255) ** 2.4) ** (1 / 2.4)).astype(int).tolist())


@pytest.mark.parametrize("colour", [RED, (30, 160, 40), (40, 50, 200), (220, 210, 40), (235, 235, 235), (20, 20, 20)])
def test_the_primaries_of_bt2020_become_those_of_a_screen(colour) -> None:
    wide = coloured(to_bt2020(colour), "gbrp", color_primaries=int(ColorPrimaries.BT2020))

    assert np.abs(shown(wide) - colour).max() <= 8  # eight bits are coarse in the dark


def test_a_red_of_p3_is_more_than_a_screen_has() -> None:
    seen = shown(coloured((200, 60, 60), "gbrp", color_primaries=int(ColorPrimaries.SMPTE432)))

    assert seen[0] > 205
    assert max(seen[1:]) < 60


def test_a_red_of_the_wide_gamut_in_hdr_is_red() -> None:
    r, g, b = shown(coloured((128, 0, 0), "gbrp", color_trc=PQ, color_primaries=int(ColorPrimaries.BT2020)))

    assert r > 150
    assert max(g, b) == 0


def test_light_itself_is_brought_to_the_screen_unless_eight_bits_show_that_the_label_is_wrong() -> None:
    fine = coloured((46, 46, 46), "gbrp16le", color_trc=int(ColorTrc.LINEAR))
    coarse = coloured((46, 46, 46), "gbrp", color_trc=int(ColorTrc.LINEAR))

    assert np.abs(shown(fine) - 125).max() <= 3
    assert shown(coarse).tolist() == [46, 46, 46]


def pq(nits: np.ndarray) -> np.ndarray:
    """The signal of light, by SMPTE ST 2084."""
    power = (np.maximum(nits, 0) / 10_000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


NITS_OF_BT2020 = np.array([[50.0, 50, 50], [100, 5, 5], [5, 100, 5], [5, 5, 100], [900, 900, 800]])


def ictcp(nits: np.ndarray) -> np.ndarray:
    """ITU-R BT.2100, table 7."""
    cones = nits @ (np.array([[1688, 2146, 262], [683, 2951, 462], [99, 309, 3688]]) / 4096).T
    return pq(cones) @ (np.array([[2048, 2048, 0], [6610, -13613, 7003], [17933, -17390, -543]]) / 4096).T


def ipt(nits: np.ndarray) -> np.ndarray:
    """Ebner and Fairchild's IPT with PQ for its power, after 2 % of each cone's light went to either other one.

    The cones are Hunt's, Pointer's and Estevez's, in balance under D65.
    """
    xyz = nits @ np.array([[0.636958, 0.144617, 0.168881], [0.2627, 0.677998, 0.059302], [0, 0.028073, 1.060985]]).T
    cones = xyz @ np.array([[0.40024, 0.7076, -0.08081], [-0.2263, 1.16532, 0.0457], [0, 0, 0.91822]]).T
    mixed = cones @ np.array([[0.96, 0.02, 0.02], [0.02, 0.96, 0.02], [0.02, 0.02, 0.96]])
    return pq(mixed) @ np.array([[0.4, 0.4, 0.2], [4.455, -4.851, 0.396], [0.8056, 0.3572, -1.1628]]).T


@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize(("matrix", "coded"), [(colours.ICTCP, ictcp), (colours.IPT_C2, ipt)])
def test_matrices_of_cones_give_the_colours_of_the_light_they_stand_for(matrix, coded, is_full) -> None:
    signals = coded(NITS_OF_BT2020)
    levels = signals * 65535 + [0, 32768, 32768] if is_full else 256 * (signals * [219, 224, 224] + [16, 128, 128])
    for level, light in zip(levels, NITS_OF_BT2020, strict=True):
        picture = VideoFrame.from_ndarray(np.tile(np.rint(level).astype(np.uint16), (16, 16, 1)), "yuv444p16le")
        picture.colorspace, picture.color_trc, picture.color_primaries = matrix, PQ, int(ColorPrimaries.BT2020)
        picture.color_range = ColorRange.JPEG if is_full else ColorRange.MPEG
        plain = VideoFrame.from_ndarray(np.tile(np.rint(65535 * pq(light)).astype(np.uint16), (16, 16, 1)), "rgb48le")
        plain.color_trc, plain.color_primaries = PQ, int(ColorPrimaries.BT2020)

        assert np.abs(shown(picture) - shown(plain)).max() <= 4


def test_a_wrong_label_of_colour_gives_key_frames_and_a_note(write_video, tmp_path) -> None:
    picture = np.full((96, 160, 3), RED, np.uint8)
    path = write_video([picture] * 3, options={"x264-params": "colormatrix=YCgCo:colorprim=bt709:transfer=bt709"})

    extraction = extract(path, tmp_path / "out")

    (key_frame,) = extraction.key_frames
    pixels = cv2.imread(str(key_frame.file), cv2.IMREAD_COLOR_RGB)
    assert np.abs(pixels[48, 80].astype(int) - RED).max() <= 8
    (note,) = extraction.facts.notes
    assert "YCgCo" in note and "BT.601" in note
