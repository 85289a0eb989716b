"""Every picture that a person can upload is read as they see it, or refused with a reason."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from services.embedding.pictures import read_picture
from shared.errors import ErrorKind, PermanentError

RED = (255, 0, 0)


def encoded(image: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def refusal(data: bytes) -> str:
    with pytest.raises(PermanentError) as caught:
        read_picture(data)
    assert caught.value.kind is ErrorKind.BAD_PICTURE
    return caught.value.message


def png_that_claims(width: int, height: int) -> bytes:
    """The first bytes of a PNG of that size, as long as a decoder needs to believe it."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    empty = b"IDAT" + zlib.compress(b"")
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, empty, b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(("format", "options"), [("PNG", {}), ("JPEG", {"quality": 95}), ("WEBP", {"lossless": True})])
def test_the_three_formats_are_read_as_rgb(format, options):
    rgb = read_picture(encoded(Image.new("RGB", (5, 3), RED), format, **options))
    assert rgb.shape == (3, 5, 3)
    assert rgb.dtype == np.uint8
    assert np.abs(rgb.astype(int) - RED).max() <= 2


def test_a_picture_taken_with_the_phone_on_its_side_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees clockwise to see it upright
    image = Image.new("RGB", (4, 2))
    image.putpixel((0, 1), (255, 255, 255))  # bottom left, top left once turned
    rgb = read_picture(encoded(image, exif=exif))
    assert rgb.shape == (4, 2, 3)
    assert rgb[0, 0].tolist() == [255, 255, 255]


def test_transparency_lies_on_white():
    half_red = read_picture(encoded(Image.new("RGBA", (2, 2), (*RED, 128))))
    assert half_red[0, 0].tolist() == [255, 127, 127]
    assert read_picture(encoded(Image.new("LA", (2, 2), (0, 0)))).min() == 255


def test_a_palette_with_a_transparent_colour_lies_on_white():
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, *RED])
    image.putpixel((1, 0), 1)
    rgb = read_picture(encoded(image, transparency=0))
    assert rgb[0].tolist() == [[255, 255, 255], list(RED)]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_every_kind_of_grey_gets_three_equal_channels(mode):
    rgb = read_picture(encoded(Image.new("L", (2, 2), 255).convert(mode)))
    assert (rgb == 255).all()
    assert rgb.shape == (2, 2, 3)


def test_sixteen_bits_are_scaled_not_clipped():
    levels = np.array([[0, 0x7F80, 0xFFFF]], np.uint16)
    assert read_picture(encoded(Image.fromarray(levels)))[0, :, 0].tolist() == [0, 0x7F, 0xFF]


def test_a_jpeg_for_printers_is_read():
    rgb = read_picture(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    assert np.abs(rgb[4, 4].astype(int) - RED).max() <= 3


def test_of_an_animation_the_first_picture_counts():
    frames = [Image.new("RGB", (4, 4), color) for color in (RED, (0, 0, 255))]
    rgb = read_picture(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True))
    assert rgb[0, 0].tolist() == list(RED)


def test_one_pixel_is_a_picture():
    assert read_picture(encoded(Image.new("RGB", (1, 1)))).shape == (1, 1, 3)


def test_nothing_is_refused():
    assert "0 bytes" in refusal(b"")


@pytest.mark.parametrize("data", [b"hello", b"<html></html>", b"\x89PNG\r\n\x1a\n"], ids=["text", "html", "only-magic"])
def test_what_is_no_picture_is_refused(data):
    assert "not a JPEG, PNG or WebP picture" in refusal(data)


@pytest.mark.parametrize("format", ["GIF", "BMP", "TIFF", "EPS"])
def test_other_formats_are_refused(format):
    assert "not a JPEG, PNG or WebP picture" in refusal(encoded(Image.new("RGB", (4, 4)), format))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_half_a_picture_is_refused(format):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    data = encoded(noise, format)
    assert "damaged" in refusal(data[: len(data) // 2])


@pytest.mark.parametrize("size", [(10_000, 5_001), (12_000, 9_000), (60_000, 60_000)])
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(size):
    assert "50 megapixels" in refusal(png_that_claims(*size))
