"""Tells a pause in a video from a clock that was set anew: both look like a long step from one timestamp to the next.

Broadcasts and files that were joined jump; slides and recordings of what happens seldom pause. A second sign decides:
the sound, which goes on in a pause and jumps along with a clock, or what the packets in between say.
"""

from __future__ import annotations

import os
import re
from collections import deque
from typing import BinaryIO

from av.packet import Packet
from av.video.stream import VideoStream

from services.keyframes.reading import transport

# Steps of less are nobody's question; a little under what the clock calls a jump, because frames are reordered.
MIN_STEP_S = 5.0
# A clock of 33 bits turns over after 26.5 hours: what seems to lie more than half of it ahead lies behind.
MAX_PAUSE_S = 12 * 3600.0
# How far sound and pictures of the same moment lie apart in a file, at most.
INTERLEAVE_S = 2.5
# As much as is looked at before a step: tables, which repeat ten times a second, have their numbers there.
BEFORE_BYTES = 256 * 1024
MAX_BETWEEN_BYTES = 8 * 2**20
# And behind it: FFmpeg gives some pictures the time of the next one.
BEHIND_BYTES = 64 * 1024
# As much as is looked at behind a step for sound that goes on, or that made it too.
AHEAD_BYTES = 2**20
# The end of a program and the beginning of another: ISO/IEC 13818-1, 2.5.3.1.
NEXT_PROGRAM = b"\0\0\1\xb9\0\0\1\xba"
MAX_STRETCHES = 64
CLOCK_HZ = 90_000
PRIVATE_PACKETS = 0xBD  # table 2-22: those of AC-3 for one


class PauseFinder:
    """Watches the packets of a container whose clock may jump, in their order in the file.

    found: where pauses end, in ticks of the video, in order.
    """

    def __init__(self, file: BinaryIO, container_name: str, video: VideoStream) -> None:
        self.found: list[int] = []
        self._file = file
        self._is_transport_stream = container_name == "mpegts"
        self._video_index = video.index
        self._last_s: float | None = None
        self._last_at = 0  # byte of the file
        self._sounds: dict[int, _Sound] = {}

    def watch(self, packet: Packet) -> bool:  # type: ignore[type-arg]
        """Take note of a packet; return whether it is one of the video."""
        is_video: bool = packet.stream.index == self._video_index  # a flushing packet knows only this one
        ticks = packet.dts if packet.pts is None else packet.pts
        if ticks is None or not packet.time_base:
            return is_video
        time_s = float(ticks * packet.time_base)
        if not is_video:
            self._sounds.setdefault(packet.stream.index, _Sound(packet.stream.id)).hear(time_s)
            return False
        at = self._last_at if packet.pos is None or packet.pos < 0 else packet.pos
        if self._last_s is not None and self._is_pause(self._last_s, time_s, at):
            self.found.append(ticks)
        # Frames are reordered by less than the least step; further back, the clock was set anew.
        if self._last_s is None or not 0 <= self._last_s - time_s < MIN_STEP_S:
            self._last_s = time_s
        self._last_at = at
        return True

    def _is_pause(self, last_s: float, time_s: float, at: int) -> bool:
        if not MIN_STEP_S < time_s - last_s < MAX_PAUSE_S:
            return False
        within = last_s + INTERLEAVE_S, time_s - INTERLEAVE_S
        sounds = [sound for sound in self._sounds.values() if sound.goes_with(last_s)]
        if any(sound.is_heard(*within) for sound in sounds):
            return True
        ahead_s = [stamp_s for sound in sounds for stamp_s in self._sound_ahead_s(sound, at)]
        if any(within[0] < stamp_s < within[1] for stamp_s in ahead_s):
            return True
        if (
            any(sound.is_heard(within[1], within[1] + MIN_STEP_S) for sound in sounds)
            or max(ahead_s, default=0) > within[1]
        ):
            return False  # it made the same step
        return not self._is_broken(self._last_at, at)

    def _sound_ahead_s(self, sound: _Sound, at: int) -> list[float]:
        """The times of a track behind a place in the file: muxers may bring sound late."""
        data = self._read(at, at + AHEAD_BYTES)
        code = rb"[\xbd\xc0-\xdf\xfd]"
        if self._is_transport_stream:
            packets = transport.packets(data)
            starts_here = packets[:, 1] & 0x40 != 0
            data = packets[(transport.pids(packets) == sound.id) & starts_here].tobytes()
        else:
            # FFmpeg's ids: the start code's, or for what is multiplexed in private packets a number of their own.
            code = re.escape(bytes([sound.id & 0xFF if sound.id > 0xFF else PRIVATE_PACKETS]))
        stamps = re.findall(rb"(?s)\x00\x00\x01%b..[\x80-\xbf][\x80-\xff].(.{5})" % code, data)
        return [_seconds(stamp) for stamp in stamps]

    def _is_broken(self, last_at: int, at: int) -> bool:
        """Whether the bytes from one packet to the next say that another recording begins."""
        if at <= last_at:
            return False
        last_at = max(last_at, at - MAX_BETWEEN_BYTES)
        if not self._is_transport_stream:
            return NEXT_PROGRAM in self._read(last_at, at + BEHIND_BYTES)
        start = max(0, last_at - BEFORE_BYTES)
        before, all_packets = (transport.packets(self._read(start, end)) for end in (last_at, at + BEHIND_BYTES))
        return transport.is_broken(all_packets, len(before))

    def _read(self, start: int, end: int) -> bytes:
        return os.pread(self._file.fileno(), end - start, start)  # FFmpeg goes on reading where it was


class _Sound:
    """Where a sound track has sound, on its clock. FFmpeg hands pictures out late, so it is known ahead of them."""

    def __init__(self, stream_id: int) -> None:
        self.id = stream_id
        self._stretches_s: deque[list[float]] = deque(maxlen=MAX_STRETCHES)  # [start, end], in order

    def hear(self, time_s: float) -> None:
        last = self._stretches_s[-1] if self._stretches_s else None
        if last is not None and abs(time_s - last[1]) < INTERLEAVE_S:
            last[1] = max(time_s, last[1])
            return
        if last is not None and time_s < last[1]:  # set back: what was heard is on another clock
            self._stretches_s.clear()
        self._stretches_s.append([time_s, time_s])

    def is_heard(self, start_s: float, end_s: float) -> bool:
        """Whether there is sound anywhere between two times."""
        return any(start < end_s and end > start_s for start, end in self._stretches_s)

    def goes_with(self, picture_s: float) -> bool:
        """Whether there is sound about a picture; other programs, and sound that ended before, say nothing."""
        return self.is_heard(picture_s - 2 * INTERLEAVE_S, picture_s + 2 * INTERLEAVE_S)


def _seconds(stamp: bytes) -> float:
    """The 33 bits of a PTS, between marker bits: ISO/IEC 13818-1, 2.4.3.6."""
    high, middle, low = stamp[0] >> 1 & 7, int.from_bytes(stamp[1:3], "big") >> 1, int.from_bytes(stamp[3:], "big") >> 1
    return (high << 30 | middle << 15 | low) / CLOCK_HZ
