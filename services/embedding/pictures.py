"""Turns the bytes of a picture file into RGB pixels."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from services.embedding.embedder import Rgb
from shared.errors import ErrorKind, PermanentError
from shared.pictures import MAX_PIXELS, MEDIA_TYPES


def read_picture(data: bytes) -> Rgb:
    """Decodes a JPEG, PNG or WebP picture the way a person sees it.

    EXIF orientation is applied, transparency lies on white, grey, palette, CMYK and 16-bit pictures become 8-bit RGB,
    of an animation only the first picture counts. Returns uint8 (H, W, 3).

    Raises `PermanentError` (bad_picture) when the bytes are no such picture, damaged, or more than `MAX_PIXELS`.
    """
    if not data:
        raise _bad("The picture is empty (0 bytes). Choose a JPEG, PNG or WebP file.")
    try:
        with _refused_bombs(), Image.open(io.BytesIO(data), formats=tuple(MEDIA_TYPES)) as image:
            width, height = image.size
            # Before any pixel is decoded: a small file can claim gigabytes of them.
            if width * height > MAX_PIXELS:
                raise _too_large(f"{width} x {height} pixels")
            ImageOps.exif_transpose(image, in_place=True)
            return np.asarray(_on_white(image))
    except PermanentError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large("far too many pixels") from error
    except UnidentifiedImageError as error:
        raise _bad("The file is not a JPEG, PNG or WebP picture. Convert it to one of these.") from error
    except Exception as error:  # damaged files make the decoders raise anything from OSError to IndexError
        raise _bad(f"The picture is damaged and cannot be read ({error}). Try another copy of it.") from error


@contextmanager
def _refused_bombs() -> Iterator[None]:
    """Have Pillow raise where it would only warn of too many pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow's own conversion clips at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _too_large(size: str) -> PermanentError:
    return _bad(
        f"The picture has {size}; the limit is {MAX_PIXELS // 1_000_000} megapixels. Scale it down and try again."
    )


def _bad(message: str) -> PermanentError:
    return PermanentError(ErrorKind.BAD_PICTURE, message)
