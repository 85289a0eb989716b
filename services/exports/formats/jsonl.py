"""JSON Lines: one object a line, for programs. The names of pictures are those that a ZIP has them under."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from services.exports.rows import Row

TITLE = "JSON Lines: a line for each key frame, for programs"
MEDIA_TYPE = "application/jsonl"
SUFFIX = ".jsonl"
NEEDS_PICTURES = False
MOST_KEY_FRAMES = None


def write(rows: Iterable[Row]) -> Iterator[bytes]:
    """Blocks of the file. ASCII only, so that no reader takes a character of a title for the end of a line."""
    for row in rows:
        yield json.dumps(row.values(), allow_nan=False).encode() + b"\n"
