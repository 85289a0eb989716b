"""An uploaded picture's header is judged before anything else sees the picture."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from PIL import Image

from services.api.commands.searches import check_picture
from services.api.problems import Invalid


def encoded(format: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, format)
    return buffer.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (header, b"IDAT" + zlib.compress(b""), b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_the_three_formats_pass(format, tmp_path):
    path = tmp_path / "picture"
    path.write_bytes(encoded(format))

    check_picture(path)


BAD = {
    "nothing": b"",
    "text": b"hello",
    "another format": encoded("GIF"),
    "a text that unpacks to too much": encoded("PNG")[:33]
    + (lambda body: struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)))(
        b"zTXtkey\0\0" + zlib.compress(bytes(2 * 2**20))
    )
    + encoded("PNG")[33:],
    "half a header": encoded("WEBP")[:20],
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_picture_is_refused(case, tmp_path):
    path = tmp_path / "picture"
    path.write_bytes(BAD[case])

    with pytest.raises(Invalid):
        check_picture(path)


@pytest.mark.parametrize("size", [(10_000, 5_001), (10_000, 10_000), (60_000, 60_000)])
def test_too_many_pixels_are_refused_by_the_header(size, tmp_path):
    path = tmp_path / "picture"
    path.write_bytes(png_that_claims(*size))

    with pytest.raises(Invalid):
        check_picture(path)
