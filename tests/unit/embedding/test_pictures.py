"""Every picture that a person can upload is read as they see it, or refused with a reason."""

from __future__ import annotations

import io
import resource
import struct
import zlib
from random import Random

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


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_with(*chunks: bytes) -> bytes:
    """A whole PNG with these chunks after its header."""
    png = encoded(Image.new("RGB", (4, 4), RED))
    return png[:33] + b"".join(chunks) + png[33:]


MEGABYTE = 2**20
BOMB = zlib.compress(bytes(100 * MEGABYTE), 9)
ALLOWED = zlib.compress(bytes(MEGABYTE - 100), 9)
REFUSED_BOMBS = {
    "one text": lambda: png_with(chunk(b"zTXt", b"key\0\0" + BOMB)),
    "international text": lambda: png_with(chunk(b"iTXt", b"key\0\1\0\0\0" + BOMB)),
    "colour profile": lambda: png_with(chunk(b"iCCP", b"key\0\0" + BOMB)),
    "many texts": lambda: png_with(*(chunk(b"zTXt", b"%d\0\0" % number + ALLOWED) for number in range(100))),
}


@pytest.mark.parametrize("bomb", REFUSED_BOMBS)
def test_what_unpacks_to_too_much_is_refused(bomb):
    assert "damaged" in refusal(REFUSED_BOMBS[bomb]())


def test_pixels_beyond_the_picture_are_not_unpacked():
    header = b"IHDR" + struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(header[:4], header[4:]) + chunk(b"IDAT", BOMB) + chunk(b"IEND", b"")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    assert read_picture(data).shape == (4, 4, 3)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kilobytes


def test_a_picture_that_is_also_a_page_is_only_a_picture():
    data = encoded(Image.new("RGB", (4, 4), RED), "JPEG") + b"<html><script>alert(1)</script></html>"

    assert read_picture(data).shape == (4, 4, 3)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01" * 99]
)
def test_a_broken_note_of_the_camera_does_not_spoil_the_picture_or_is_damage(exif):
    data = encoded(Image.new("RGB", (4, 4), RED), "JPEG", exif=exif)
    try:
        assert read_picture(data).shape == (4, 4, 3)
    except PermanentError as error:
        assert error.kind is ErrorKind.BAD_PICTURE


@pytest.mark.filterwarnings("ignore")  # what Pillow says of odd metadata is no concern here
def test_damage_of_any_kind_is_a_picture_or_a_sentence():
    random = Random(5)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8))
    whole = [encoded(noise, "PNG"), encoded(noise, "JPEG"), encoded(noise, "WEBP"), encoded(noise.convert("P"), "PNG")]
    whole.append(encoded(noise, "WEBP", save_all=True, append_images=[noise.rotate(90)]))
    read = 0
    for number in range(600):
        data = bytearray(whole[number % len(whole)])
        for _ in range(random.choice((1, 3, 30))):
            data[random.randrange(min(len(data), random.choice((64, len(data)))))] = random.randrange(256)
        if random.random() < 0.3:
            del data[random.randrange(len(data)) :]
        try:
            read += read_picture(bytes(data)).shape[2] == 3
        except PermanentError as error:
            assert error.kind is ErrorKind.BAD_PICTURE
    assert 50 < read < 550
