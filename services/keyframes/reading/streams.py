"""Chooses which video of a file is read, by what comes out of the decoders: flags are claims."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import BinaryIO, cast

from av.codec import CodecContext, codecs_available
from av.codec.context import ThreadType
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from services.keyframes.reading.encryption import Encryption, encrypted
from services.keyframes.reading.limits import DecodeLimits, pixel_limit, refuse_if_memory_is_short
from shared.errors import ErrorKind, PermanentError

# A demuxer that fails this often in a row makes no progress any more.
MAX_DEMUX_FAILURES = 100
# WebM keeps transparency beside the picture, where FFmpeg's own decoders do not look.
DECODERS_OF_ALPHA = MappingProxyType({"vp8": "libvpx", "vp9": "libvpx-vp9"})
# A video shows at least two pictures, and goes on for at least this long; a cover does not.
MIN_MOTION_S = 1.0
ENOUGH_PICTURES = 2


@dataclass(frozen=True)
class Choice:
    """indexes: of the streams to try, the best first. others: how many further videos the file holds."""

    indexes: tuple[int, ...]
    others: int


@dataclass(slots=True)
class _Seen:
    """What came of one stream. pictures: whole ones, no more than are needed. first_s, last_s: times of its packets."""

    stream: VideoStream
    pictures: int = 0
    first_s: float = math.inf
    last_s: float = -math.inf

    @property
    def goes_on(self) -> bool:
        return self.pictures >= ENOUGH_PICTURES and self.last_s - self.first_s >= MIN_MOTION_S

    @property
    def rank(self) -> tuple[bool, int]:
        return self.goes_on, self.pictures


def choose(file: BinaryIO, container: InputContainer, limits: DecodeLimits) -> Choice:
    """Choose among the videos of a file. Of several, packets are read until one has shown that it is a video.

    The container is spent afterwards if there is more than one. Raises PermanentError where there is none to read.
    """
    if len(container.streams) > limits.max_streams:
        raise PermanentError(
            ErrorKind.TOO_LARGE,
            f"The file has {len(container.streams)} streams, and at most {limits.max_streams} are allowed. "
            "Send a file with the video alone.",
        )
    # The cover of a song is a video stream of one picture.
    pictures = Disposition.attached_pic | Disposition.timed_thumbnails
    moving = [stream for stream in container.streams.video if not stream.disposition & pictures]
    if not moving:
        raise PermanentError(
            ErrorKind.NO_VIDEO_STREAM, "The file has no video in it, only sound or a cover picture. Send a video."
        )
    encryption = Encryption(file, container)
    how = {stream.index: encryption.of(stream) for stream in moving}
    clear = [stream for stream in moving if how[stream.index] is None]
    if not clear:
        raise encrypted(next(filter(None, how.values())))
    decodable = [stream for stream in clear if stream.codec_context is not None]
    if not decodable:
        raise PermanentError(
            ErrorKind.DAMAGED,
            "The file holds a video in a format that FFmpeg cannot decode here, so no frame could be read. Convert it, "
            "to H.264 for example, and send that.",
        )
    # Those that are marked as default first, as players do; FFmpeg's own choice is the largest.
    preferred = sorted(decodable, key=lambda stream: not stream.disposition & Disposition.default)
    unread = len(moving) - len(decodable)
    if len(preferred) == 1:
        return Choice((preferred[0].index,), unread)
    return _by_what_comes(container, preferred, limits, unread)


def _by_what_comes(
    container: InputContainer, preferred: Sequence[VideoStream], limits: DecodeLimits, unread: int
) -> Choice:
    seen = {stream.index: _Seen(stream) for stream in preferred}
    first = seen[preferred[0].index]
    for stream in preferred:
        prepare(stream, limits)
    discard_all_but(container, preferred)
    for packet in packets(container, preferred, limits):
        if packet is None:
            continue
        one = seen[packet.stream.index]
        ticks = packet.dts if packet.pts is None else packet.pts
        if packet.size and ticks is not None and packet.time_base:
            time_s = float(ticks * packet.time_base)
            one.first_s, one.last_s = min(time_s, one.first_s), max(time_s, one.last_s)
        if one.pictures < ENOUGH_PICTURES:
            one.pictures += _whole_pictures(one.stream, packet, limits)
        if first.goes_on:
            return Choice(tuple(seen), unread + len(seen) - 1)
    ranked = sorted(seen.values(), key=lambda one: one.rank, reverse=True)
    # Reading ended: what gave nothing, or a single picture beside a video, is no further video.
    others = sum(one.pictures >= ENOUGH_PICTURES or not ranked[0].goes_on for one in ranked[1:] if one.pictures)
    return Choice(tuple(one.stream.index for one in ranked), unread + others)


def _whole_pictures(stream: VideoStream, packet: Packet[VideoStream], limits: DecodeLimits) -> int:
    try:
        return sum(not picture.is_corrupt for picture in stream.decode(packet if packet.size else None))
    except FFmpegError as error:
        refuse_if_memory_is_short(limits, error)
        return 0


def prepare(stream: VideoStream, limits: DecodeLimits) -> VideoCodecContext:
    """Set up what decodes a stream, before it decodes anything."""
    decoder = stream.codec_context
    with_alpha = DECODERS_OF_ALPHA.get(decoder.codec.canonical_name)
    if with_alpha in codecs_available and stream.metadata.get("alpha_mode") == "1":
        decoder = cast(VideoCodecContext, CodecContext.create(with_alpha, "r"))
    decoder.thread_type = ThreadType.NONE
    decoder.thread_count = 1
    decoder.options = pixel_limit(limits)  # pictures can grow within a stream
    return decoder


def discard_all_but(container: InputContainer, wanted: Sequence[Stream]) -> None:
    """Let the demuxer skip the other streams."""
    indexes = {stream.index for stream in wanted}
    for other in container.streams:
        if other.index not in indexes:
            other.discard = Discard.all


def packets(
    container: InputContainer, streams: Sequence[Stream], limits: DecodeLimits
) -> Iterator[Packet[VideoStream] | None]:
    """Yield every packet of the streams, None for one that cannot be read, the empty ones that flush decoders last."""
    demuxed = container.demux(*streams)
    failures = 0
    while failures < MAX_DEMUX_FAILURES:
        try:
            yield next(demuxed)  # type: ignore[misc]
            failures = 0
        except StopIteration:
            return
        except IndexError:
            # A packet of a stream that appeared only now, which PyAV does not know; it is none of those we read.
            demuxed = container.demux(*streams)
        except FFmpegError as error:
            refuse_if_memory_is_short(limits, error)
            failures += 1
            yield None
            demuxed = container.demux(*streams)
