"""Changes the boxes of MP4 files, to make files that no muxer would write."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"stbl")


def change(data: bytes, path: Sequence[bytes], edit: Callable[[bytes], bytes]) -> bytes:
    """The file with `edit` applied to the content of every box at the path, and the sizes around it made right.

    For files whose index comes last, so that no offset changes.
    """
    changed = bytearray()
    position = 0
    while position < len(data):
        size, name = struct.unpack_from(">I4s", data, position)
        content = data[position + 8 : position + size]
        if name == path[0]:
            content = change(content, path[1:], edit) if len(path) > 1 else edit(content)
        changed += struct.pack(">I4s", len(content) + 8, name) + content
        position += size
    return bytes(changed)


def with_external_data(data: bytes, target: str) -> bytes:
    """The MP4 with the media said to be in another file: by a macOS alias, the form that FFmpeg can follow."""
    path = target.encode() + b"\0" * (len(target) % 2)
    alias = bytes(10) + b"\0" + bytes(27 + 12) + b"\0" + bytes(63 + 16) + struct.pack(">HH", 0, 0) + bytes(16)
    alias += struct.pack(">HH", 2, len(path)) + path + struct.pack(">hH", -1, 0)
    entry = struct.pack(">I4sI", len(alias) + 12, b"alis", 0) + alias
    dref = struct.pack(">II", 0, 1) + entry
    return change(data, (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"), lambda old: dref)


def with_remote_data(data: bytes, url: str) -> bytes:
    """The MP4 with the media said to be at a URL."""
    location = url.encode() + b"\0"
    dref = struct.pack(">II", 0, 1) + struct.pack(">I4sI", len(location) + 12, b"url ", 0) + location
    return change(data, (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"), lambda old: dref)
