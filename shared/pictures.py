"""How large the pictures are that are kept, and what a picture may be that is taken in to search with or to embed."""

from __future__ import annotations

#: The longest side of the small picture of a key frame, at most. Part of the recipe: a change makes other pictures.
SMALL_PICTURE_PX = 320

#: What pictures are read, by Pillow's names -> their media types.
MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
#: The most that is decoded. Reading takes 20 bytes of memory a pixel for a moment, so at most 1 GB.
MAX_PIXELS = 50_000_000
#: The most that is taken in for a search.
MAX_QUERY_PICTURE_BYTES = 20 * 1024 * 1024
