"""Tells whether a stream is encrypted, by what its container says of it: decoders make garbage of encrypted packets.

FFmpeg knows some of this and tells none of it, so the file is asked.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from typing import BinaryIO
from uuid import UUID

import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from services.keyframes.reading import transport
from shared.errors import ErrorKind, PermanentError

# As much of a stream of packets as is looked at. A broadcast repeats its tables ten times a second.
LOOKED_AT_BYTES = 4 * 2**20
# The index of a long film; what of it is larger says nothing more about encryption.
MAX_BOX_BYTES = 64 * 2**20
MAX_BOXES = 10_000
LEAST_SECTION_BYTES = 12  # without any entry
SAMPLE_AES_H264 = 0xDB  # Apple, MPEG-2 Stream Encryption Format for HTTP Live Streaming, table 2
# The content encryption object and its extended form, as they lie in a file: ASF specification, 3.14 and 3.15.
ASF_ENCRYPTION = (
    UUID("2211B3FB-BD23-11D2-B4B7-00A0C955FC6E").bytes_le,
    UUID("298AE614-2622-4C17-B935-DAE07EE9289C").bytes_le,
)
ASF_HEADER_BYTES = 64 * 1024
CONTAINERS_THAT_TELL = ("mov", "matroska", "asf", "mpegts", "mpeg")
# Of a scrambled broadcast or DVD, a part stays in the clear.
SCRAMBLED_SHARE = 0.1


class Encryption:
    """What a container says of the encryption of its streams."""

    def __init__(self, file: BinaryIO, container: InputContainer) -> None:
        names = container.format.name.split(",")
        self._container_name = next((name for name in CONTAINERS_THAT_TELL if name in names), None)
        self._tracks = _encrypted_tracks(file) if self._container_name == "mov" else set()
        self._start = _read(file, 0, LOOKED_AT_BYTES) if self._container_name in {"asf", "mpegts", "mpeg"} else b""

    def of(self, stream: VideoStream) -> str | None:
        """Return how a stream is encrypted, as a person would say it; None where nothing says that it is."""
        match self._container_name:
            case "mov" if stream.id in self._tracks:
                return "DRM of an MP4"
            case "matroska" if "enc_key_id" in stream.metadata:
                return "DRM of a WebM or Matroska file"
            case "asf" if any(guid in self._start[:ASF_HEADER_BYTES] for guid in ASF_ENCRYPTION):
                return "Windows Media DRM"
            case "mpegts":
                return _transport_encryption(self._start, stream.id)
            case "mpeg" if _is_scrambled_disc(self._start, stream.id & 0xFF):
                return "copy protection of a DVD"
        return None


def encrypted(how: str) -> PermanentError:
    """What to raise of a video that is encrypted."""
    return PermanentError(
        ErrorKind.DRM_PROTECTED,
        f"The video is encrypted ({how}), so its pictures cannot be read. Submit a copy that is not protected.",
    )


def _read(file: BinaryIO, offset: int, size_bytes: int) -> bytes:
    return os.pread(file.fileno(), size_bytes, offset)  # FFmpeg goes on reading where it was


def _encrypted_tracks(file: BinaryIO) -> set[int]:
    """Return the ids of an MP4's tracks whose samples are protected: ISO/IEC 14496-12, 8.12; FairPlay's own name."""
    file_bytes = os.fstat(file.fileno()).st_size
    tracks = set()
    for kind, start, end in _boxes(file, 0, file_bytes):
        if kind != b"moov":
            continue
        for child, child_start, child_end in _boxes(file, start, end):
            track = _read(file, child_start, min(child_end - child_start, MAX_BOX_BYTES)) if child == b"trak" else b""
            header, entries = track.find(b"tkhd"), track.find(b"stsd")
            if header >= 0 and entries >= 0 and re.search(rb"encv|drmi", track[entries : entries + 4096]):
                id_at = header + (24 if track[header + 4 : header + 5] == b"\1" else 16)
                tracks.add(int.from_bytes(track[id_at : id_at + 4], "big"))
    return tracks


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, start and end of its content) of the boxes between two places."""
    for _ in range(MAX_BOXES):
        header = _read(file, start, 16)
        if len(header) < 8 or start >= end:
            return
        size_bytes, kind = struct.unpack(">I4s", header[:8])
        header_bytes = 8
        if size_bytes == 1 and len(header) == 16:
            size_bytes, header_bytes = int.from_bytes(header[8:], "big"), 16
        box_end = min(start + size_bytes, end) if size_bytes else end
        yield kind, start + header_bytes, box_end
        if box_end < start + header_bytes:
            return
        start = box_end


def _transport_encryption(data: bytes, pid: int) -> str | None:
    """How the packets of one PID are encrypted: ISO/IEC 13818-1, 2.4.3.3 (scrambling control) and 2.4.4 (tables)."""
    packets = transport.packets(data)
    pids = transport.pids(packets)
    own = packets[pids == pid]
    if len(own) and (own[:, 3] & 0xC0 != 0).mean() > SCRAMBLED_SHARE:
        return "scrambled broadcast"
    program_tables = {table_pid for packet in packets[pids == 0] for table_pid in _programs(packet.tobytes())}
    for packet in packets[np.isin(pids, list(program_tables))]:
        if (SAMPLE_AES_H264, pid) in _streams(packet.tobytes()):
            return "SAMPLE-AES of a stream"
    return None


def _section(packet: bytes) -> bytes:
    """Return a table that begins in a packet, from its number to the end of the packet or of the table."""
    payload = 4 + (1 + packet[4] if packet[3] & 0x20 else 0)
    if not packet[1] & 0x40 or payload >= 187:
        return b""
    section = packet[payload + 1 + packet[payload] :]
    section = section[: 3 + ((section[1] & 0x0F) << 8 | section[2])] if len(section) > 2 else b""
    return section if len(section) >= LEAST_SECTION_BYTES else b""


def _programs(packet: bytes) -> set[int]:
    """Return the PIDs of the tables of programs that a program association table names."""
    section = _section(packet)
    entries = section[8:-4] if section[:1] == b"\0" else b""
    return {int.from_bytes(entries[at + 2 : at + 4], "big") & 0x1FFF for at in range(0, len(entries) - 3, 4)}


def _streams(packet: bytes) -> set[tuple[int, int]]:
    """Return (type, PID) of the streams that a program's table names."""
    section = _section(packet)
    found = set()
    if section[:1] == b"\2":
        at = 12 + ((section[10] & 0x0F) << 8 | section[11])
        while at + 5 <= len(section) - 4:
            found.add((section[at], int.from_bytes(section[at + 1 : at + 3], "big") & 0x1FFF))
            at += 5 + ((section[at + 3] & 0x0F) << 8 | section[at + 4])
    return found


def _is_scrambled_disc(data: bytes, stream_id: int) -> bool:
    """Whether the packets of a stream say that they are scrambled: ISO/IEC 13818-1, 2.4.3.7."""
    flags = re.findall(rb"(?s)\x00\x00\x01%b..([\x80-\xbf])" % re.escape(bytes([stream_id])), data)
    return bool(flags) and sum(flag[0] & 0x30 != 0 for flag in flags) / len(flags) > SCRAMBLED_SHARE
