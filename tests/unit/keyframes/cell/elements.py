"""Changes the elements of Matroska files, to make files that no muxer of ours would write."""

from __future__ import annotations

from collections.abc import Callable, Sequence

SEGMENT, TRACKS, TRACK, VIDEO = b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\xe0"
DISPLAY_WIDTH, DISPLAY_HEIGHT, DISPLAY_UNIT = b"\x54\xb0", b"\x54\xba", b"\x54\xb2"
CROP_BOTTOM, CROP_TOP, CROP_LEFT, CROP_RIGHT = b"\x54\xaa", b"\x54\xbb", b"\x54\xcc", b"\x54\xdd"


def element(name: bytes, content: bytes) -> bytes:
    """An element with its size in eight bytes."""
    return name + (len(content) | 1 << 56).to_bytes(8) + content


def change(data: bytes, path: Sequence[bytes], edit: Callable[[bytes], bytes]) -> bytes:
    """The file with `edit` applied to the content of every element at the path, and the sizes around it made right."""
    changed = bytearray()
    position = 0
    while position < len(data):
        name_end = position + 9 - data[position].bit_length()
        size_end = name_end + 9 - data[name_end].bit_length()
        size = int.from_bytes(data[name_end:size_end]) & ((1 << 7 * (size_end - name_end)) - 1)
        name, content = data[position:name_end], data[size_end : size_end + size]
        if name == path[0]:
            content = change(content, path[1:], edit) if len(path) > 1 else edit(content)
            changed += element(name, content)
        else:
            changed += data[position : size_end + size]
        position = size_end + size
    return bytes(changed)
