"""Each picture is upright, square, whole and opaque by its own properties and by what the container adds."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from av.video.format import VideoFormat, names
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace

from services.keyframes.choosing.signatures import signature
from services.keyframes.reading.frames import VideoReader
from services.keyframes.reading.framing import Margins, cropped, on_white
from services.keyframes.reading.pictures import rgb
from tests.unit.keyframes.cell import boxes, elements
from tests.unit.keyframes.cell.elements import element

RED, GREEN = (220, 20, 20), (20, 160, 40)


def shown(path: Path, max_px: int = 960) -> list[np.ndarray]:
    """Every frame of a video as a person sees it."""
    with VideoReader(path) as reader:
        return [rgb(frame.picture, frame.orientation, max_px, reader.claimed_pixel_aspect) for frame in reader]


def plain(colour: tuple[int, int, int], width: int = 160, height: int = 96) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def joined(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def turned(path: Path) -> Path:
    """The raw H.264 file with every I-frame saying that it is to be shown a quarter turn anticlockwise."""
    copy = path.with_stem(f"{path.stem}_turned")
    with av.open(str(path)) as container, copy.open("wb") as out:
        say = BitStreamFilterContext("h264_metadata=display_orientation=insert:rotate=90", container.streams.video[0])
        for packet in container.demux(video=0):
            if packet.size:
                out.writelines(bytes(said) for said in say.filter(packet))
    return copy


def test_the_shape_of_pixels_may_change_within_a_stream(write_video, tmp_path) -> None:
    parts = (
        write_video([plain(colour, 96, 72)] * 12, f"{aspect.numerator}.ts", codec="mpeg2video", options={"bf": "2"},
                    pixel_aspect=aspect)
        for colour, aspect in ((RED, Fraction(1)), (GREEN, Fraction(4, 3)))
    )  # fmt: skip

    pictures = shown(joined(tmp_path / "joined.ts", *parts))

    assert len(pictures) == 24
    is_red = [picture[40, 40, 0] > 128 for picture in pictures]
    assert [picture.shape for picture in pictures] == [(72, 96, 3) if red else (72, 128, 3) for red in is_red]
    assert sum(is_red) == 12


def test_the_orientation_may_change_within_a_stream_and_holds_until_the_next_i_frame(
    write_video, corner_picture, tmp_path
) -> None:
    lying = write_video([corner_picture] * 12, "lying.h264", container="h264", options={"bf": "2"})

    pictures = shown(joined(tmp_path / "joined.h264", lying, turned(lying), lying))

    assert [picture.shape[:2] for picture in pictures] == [(96, 160)] * 12 + [(160, 96)] * 12 + [(96, 160)] * 12
    np.testing.assert_allclose(pictures[20], np.rot90(pictures[0]), atol=40)


def test_what_the_container_says_of_the_shape_of_pixels_goes_before_the_codec(write_video, tmp_path) -> None:
    path = write_video([plain(RED)] * 2, "a.mkv", pixel_aspect=Fraction(1))

    def widen(video: bytes) -> bytes:
        in_pixels = video.replace(elements.DISPLAY_UNIT + b"\x81\x04", elements.DISPLAY_UNIT + b"\x81\x00")
        width, height = (320).to_bytes(2), (96).to_bytes(1)
        return in_pixels + element(elements.DISPLAY_WIDTH, width) + element(elements.DISPLAY_HEIGHT, height)

    path.write_bytes(change_video_element(path, widen))

    assert shown(path)[0].shape == (96, 320, 3)


def test_each_picture_that_is_a_single_field_is_shown_at_full_height(write_video, corner_picture) -> None:
    fields = [corner_picture[half::2] for half in (0, 1, 0, 1)]
    path = write_video(
        fields, "a.mkv", codec="libx265", rate_hz=50, options={"x265-params": "interlace=tff:log-level=none"}
    )

    pictures = shown(path)
    with VideoReader(path) as reader:
        frames = list(reader)

    assert [picture.shape for picture in pictures] == [corner_picture.shape] * 4
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.02, 0.04, 0.06])
    assert (reader.facts.width_px, reader.facts.height_px) == (160, 96)
    for picture in pictures:
        assert np.abs(picture.astype(int) - corner_picture)[:44, :70].mean() < 8
    # Nothing jumps between the two fields of a still.
    assert np.abs(signature(frames[0].picture).values.astype(int) - signature(frames[1].picture).values).mean() < 2


@pytest.mark.parametrize("order", ["interlaced=1", "bff=1"])
def test_one_field_is_shown_whichever_comes_first(order, write_video) -> None:
    combed = np.zeros((96, 160, 3), np.uint8)
    combed[0::2, :80] = combed[1::2, 80:] = 255
    picture = shown(write_video([combed] * 3, options={"x264-params": f"{order}:qp=1"}))[0]

    assert picture.shape == (96, 160, 3)
    assert np.ptp(picture[4:-4, 8:72]) < 35 and np.ptp(picture[4:-4, 88:152]) < 35


def change_video_element(path: Path, edit) -> bytes:
    steps = (elements.SEGMENT, elements.TRACKS, elements.TRACK, elements.VIDEO)
    return elements.change(path.read_bytes(), steps, edit)


def with_margins_in_matroska(path: Path) -> bytes:
    margins = ((elements.CROP_LEFT, 16), (elements.CROP_RIGHT, 8), (elements.CROP_TOP, 20), (elements.CROP_BOTTOM, 4))
    added = b"".join(element(name, bytes([length])) for name, length in margins)
    return change_video_element(path, lambda video: video + added)


def with_margins_in_mp4(path: Path) -> bytes:
    """A clean aperture of 136 x 72, whose centre lies (4, 8) from the picture's."""

    def edit(descriptions: bytes) -> bytes:
        count, (size,) = descriptions[:8], struct.unpack_from(">I", descriptions, 8)
        aperture = struct.pack(">I4s8i", 40, b"clap", 136, 1, 72, 1, 4, 1, 8, 1)
        return count + struct.pack(">I", size + 40) + descriptions[12 : 8 + size] + aperture + descriptions[8 + size :]

    return boxes.change(path.read_bytes(), (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"), edit)


@pytest.mark.parametrize(("name", "add"), [("a.mkv", with_margins_in_matroska), ("a.mp4", with_margins_in_mp4)])
def test_what_the_container_cuts_off_is_not_seen(name, add, write_video, texture_of) -> None:
    inner = texture_of(3, 136, 72)
    whole = plain((0, 255, 0))
    whole[20:92, 16:152] = inner
    path = write_video([whole] * 3, name, options={"qp": "1"}, pixel_format="yuv444p")
    path.write_bytes(add(path))

    picture = shown(path)[0]
    with VideoReader(path) as reader:
        seen = signature(next(iter(reader)).picture)

    assert picture.shape == inner.shape
    assert (reader.facts.width_px, reader.facts.height_px) == (136, 72)
    np.testing.assert_allclose(picture, inner, atol=12)
    expected = signature(VideoFrame.from_ndarray(inner, "rgb24").reformat(format="yuv444p"))
    assert np.abs(seen.values.astype(int) - expected.values).mean() < 2


@pytest.mark.parametrize("margins", [Margins(80, 80, 0, 0), Margins(0, 0, 0, 4000), Margins(2**32 - 1, 0, 0, 0)])
def test_margins_that_leave_nothing_are_not_believed(margins) -> None:
    picture = VideoFrame(160, 96, "yuv420p")

    assert cropped(picture, margins) is picture


@pytest.mark.parametrize(
    "pixel_format", ["yuv420p", "yuv410p", "nv12", "yuyv422", "rgb24", "pal8", "gray10le", "monow"]
)
def test_margins_of_odd_length_leave_none_of_the_margin(pixel_format) -> None:
    whole = cropped(VideoFrame(160, 96, pixel_format), Margins(13, 0, 7, 0))

    assert 160 - 16 <= whole.width <= 160 - 13
    assert 96 - 8 <= whole.height <= 96 - 7


ALPHA_FORMATS = sorted(name for name in names if any(part.is_alpha for part in VideoFormat(name).components))
# What FFmpeg's scaler neither reads nor makes
NOT_CONVERTED = {"gbrap32be", "gbrap32le", "rgba128be", "rgba128le", "rgbaf32be", "rgbaf32le", "yaf32be", "yaf32le"}
NOT_MADE = {"gbrapf16be", "gbrapf16le", "rgbaf16be", "rgbaf16le", "yaf16be", "yaf16le"}


def layers() -> np.ndarray:
    """Noise under alpha 0 on the left, a grey of 100 under alpha 255 on the right, and half of it between; RGBA."""
    picture = np.empty((32, 96, 4), np.uint8)
    picture[..., :3] = 100
    picture[..., 3] = 255
    picture[:, :32] = np.random.default_rng(0).integers(0, 256, (32, 32, 4))
    picture[:, :32, 3] = 0
    picture[:, 32:64, 3] = 128
    return picture


@pytest.mark.parametrize("pixel_format", sorted(set(ALPHA_FORMATS) - NOT_CONVERTED - NOT_MADE))
def test_what_is_transparent_lies_on_white(pixel_format) -> None:
    picture = VideoFrame.from_ndarray(layers(), "rgba").reformat(format=pixel_format)

    opaque = on_white(picture).reformat(format="rgb24").to_ndarray().astype(int)

    assert opaque[:, 4:28].min() >= 253
    assert np.abs(opaque[:, 36:60] - 177).max() <= 3
    assert np.abs(opaque[:, 68:92] - 100).max() <= 3


@pytest.mark.parametrize(("pixel_format", "white"), [("rgba", 255), ("rgba64le", 65535)])
def test_every_colour_under_every_alpha_is_rounded_to_the_nearest(pixel_format, white) -> None:
    levels = np.linspace(0, white, 256).round().astype(np.int64)
    colour, alpha = np.meshgrid(levels, levels)
    samples = np.stack([colour, colour, colour, alpha], axis=-1).astype(np.uint8 if white == 255 else np.uint16)

    opaque = on_white(VideoFrame.from_ndarray(samples, pixel_format)).to_ndarray()

    expected = (2 * colour * alpha + 2 * white * (white - alpha) + white) // (2 * white)
    assert np.array_equal(opaque[..., 0], expected)


def test_a_palette_may_have_transparent_colours() -> None:
    picture = VideoFrame(32, 32, "pal8")
    indexes = np.frombuffer(memoryview(picture.planes[0]), np.uint8).reshape(32, -1)
    indexes[:, :16], indexes[:, 16:] = 0, 1
    palette = np.frombuffer(memoryview(picture.planes[1]), np.uint32)
    palette[:2] = 0x00FF0000, 0xFF0000FF  # transparent red, opaque blue

    opaque = on_white(picture).reformat(format="rgb24").to_ndarray()

    assert opaque[8, 8].tolist() == [255, 255, 255]
    assert opaque[8, 24].tolist() == [0, 0, 255]


def test_a_picture_that_is_opaque_throughout_stays_as_it_is() -> None:
    picture = VideoFrame.from_ndarray(layers()[..., :3].copy(), "rgb24").reformat(format="yuva420p")

    assert on_white(picture) is picture


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("a.mov", "qtrle", "argb"),
        ("a.mov", "png", "rgba"),
        ("a.mov", "prores_ks", "yuva444p10le"),
        ("a.mkv", "ffv1", "yuva420p"),
        ("a.webm", "libvpx", "yuva420p"),
        ("a.webm", "libvpx-vp9", "yuva420p"),
    ],
)
def test_the_pictures_and_the_signatures_of_transparent_videos_lie_on_white(
    name, codec, pixel_format, tmp_path
) -> None:
    path = tmp_path / name
    with av.open(str(path), "w") as output:
        is_vpx = codec.startswith("libvpx")
        stream = output.add_stream(codec, rate=5, options={"auto-alt-ref": "0", "crf": "4"} if is_vpx else {})
        stream.width, stream.height, stream.pix_fmt = 96, 32, pixel_format
        for index in range(3):
            frame = VideoFrame.from_ndarray(layers(), "rgba").reformat(format=pixel_format)
            frame.pts, frame.time_base = index, Fraction(1, 5)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))

    picture = shown(path)[0].astype(int)
    with VideoReader(path) as reader:
        luma = signature(next(iter(reader)).picture).luma

    with VideoReader(path, i_frames_only=True) as reader:
        alone = list(reader)

    assert picture[:, 4:28].min() >= 250
    assert np.abs(picture[:, 36:60] - 177).max() <= 8
    assert np.abs(picture[:, 68:92] - 100).max() <= 8
    assert alone[0].is_i_frame or codec == "qtrle"  # whose decoder does not say
    assert signature(alone[0].picture).luma[:, 4:18].min() > 225
    assert reader.facts.pixel_format in ALPHA_FORMATS
    assert luma[:, 4:18].min() > 225
    assert luma[:, 48:60].max() < 110


def labelled(path: Path, **labels: int) -> bytes:
    """The MP4 with a box that names its colours: primaries, transfer, matrix."""
    colour = struct.pack(">I4s4sHHHB", 19, b"colr", b"nclx", *labels.values(), 0)

    def edit(descriptions: bytes) -> bytes:
        (size,) = struct.unpack_from(">I", descriptions, 8)
        entry = descriptions[12 : 8 + size]
        start = entry.find(b"colr") - 4
        if start > 0:
            entry = entry[:start] + entry[start + 19 :]
            size -= 19
        return descriptions[:8] + struct.pack(">I", size + 19) + entry + colour

    return boxes.change(path.read_bytes(), (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"), edit)


def test_colours_that_only_the_container_names_are_read_so(write_video) -> None:
    path = write_video([plain(RED)] * 2, colorspace=Colorspace.ITU709)
    path.write_bytes(labelled(path, primaries=1, transfer=1, matrix=1))

    np.testing.assert_allclose(shown(path)[0][48, 80], RED, atol=4)


def with_dolby_vision(path: Path, compatibility: int) -> bytes:
    """The MP4 with a box that says: Dolby Vision, profile 5."""
    record = bytes([1, 0, 5 << 1, 6 << 3 | 0b101, compatibility << 4]) + bytes(19)
    added = struct.pack(">I4s", 32, b"dvcC") + record

    def edit(descriptions: bytes) -> bytes:
        (size,) = struct.unpack_from(">I", descriptions, 8)
        return descriptions[:8] + struct.pack(">I", size + 32) + descriptions[12 : 8 + size] + added

    return boxes.change(path.read_bytes(), (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"), edit)


def test_dolby_vision_that_nothing_else_can_show_has_a_note_and_the_colours_of_its_own_matrix(write_video) -> None:
    path = write_video(
        [plain(RED)], "a.mp4", codec="libx265", pixel_format="yuv420p10le", options={"x265-params": "log-level=none"}
    )
    path.write_bytes(with_dolby_vision(path, compatibility=0))

    with VideoReader(path) as reader:
        frame = next(iter(reader))
        assert frame.picture.colorspace == 15
        assert frame.picture.color_range in (ColorRange.MPEG, ColorRange.UNSPECIFIED)
        assert [note for note in reader.facts.notes if "Dolby Vision" in note]


def test_dolby_vision_that_is_also_something_else_is_read_as_that(write_video) -> None:
    path = write_video(
        [plain(RED)],
        "a.mp4",
        codec="libx265",
        pixel_format="yuv420p10le",
        options={"x265-params": "log-level=none"},
    )
    path.write_bytes(with_dolby_vision(path, compatibility=2))

    with VideoReader(path) as reader:
        assert reader.facts.notes == ()
    np.testing.assert_allclose(shown(path)[0][48, 80], RED, atol=6)
