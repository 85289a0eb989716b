"""Reads the frames of a video file with PyAV, one after the other, with exact times, and turns frames into pictures.

What is read is hostile or broken as a rule: a damaged packet costs its own frames and no others, limits hold while
reading, and FFmpeg is handed the one open file: it opens nothing itself, no other file and no connection.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from services.keyframes.reading.contents import known_content
from services.keyframes.reading.framing import Framing
from services.keyframes.reading.limits import DecodeLimits, refuse_if_memory_is_short
from services.keyframes.reading.opening import open_container, open_file
from services.keyframes.reading.pauses import PauseFinder
from services.keyframes.reading.pictures import UPRIGHT, Orientation, orientation_of, pixel_aspect_of
from services.keyframes.reading.streams import DECODERS_OF_ALPHA, Choice, choose, discard_all_but, packets, prepare
from services.keyframes.reading.tally import Tally
from services.keyframes.reading.timestamps import StreamClock
from shared.errors import ErrorKind, PermanentError

# An AVI stores no presentation times. FFmpeg invents some, which go back and forth where there are B frames; the times
# at which frames leave the decoder (`dts`) are evenly spaced and late by the decoder's delay.
CONTAINERS_WITHOUT_PTS = frozenset({"avi"})
# FFmpeg's own assumption for streams that do not tell their rate.
DEFAULT_RATE_HZ = Fraction(25)
# H.264 and HEVC reorder at most 16 frames; more waiting packets mean that decoding times are missing.
MAX_REORDERED_PACKETS = 64
AVFMT_TS_DISCONT = 0x0200  # the clock of such a container can be set anew within a file


@dataclass(frozen=True, slots=True)
class Frame:
    """A decoded frame.

    index: its place in presentation order, from 0. time_s: when it is shown, by the stream's own timestamps, since the
    stream's start; strictly increasing. end_s: when its own duration ends. pts: the stream's timestamp, if it has one.
    picture: a whole one, without the container's margins, of full height and opaque; not stretched, and not turned
    upright, which orientation says how to do.
    """

    index: int
    time_s: float
    end_s: float
    pts: int | None
    is_i_frame: bool
    is_corrupt: bool
    picture: VideoFrame
    orientation: Orientation = UPRIGHT


@dataclass(frozen=True)
class VideoFacts:
    """What the file says about its video, and what the first readable frame shows.

    container, codec, pixel_format: FFmpeg's names. width_px, height_px: as displayed, upright with square pixels.
    rotation_deg: how far the decoded picture is turned clockwise for display. pixel_aspect: width of a pixel / height.
    Of these four, later pictures may have others. average_rate_hz, header_duration_s: None where the file does not say.
    start_s: how much later than the file's first stream this one starts; add it to a frame's time to find the frame in
    a player. other_videos: how many further ones the file holds, covers not counted. notes: sentences for people about
    what may be wrong with the pictures.
    """

    container: str
    codec: str
    pixel_format: str
    width_px: int
    height_px: int
    rotation_deg: int
    pixel_aspect: float
    average_rate_hz: float | None
    header_duration_s: float | None
    start_s: float
    has_audio: bool
    other_videos: int = 0
    notes: tuple[str, ...] = ()


class VideoReader:
    """A context manager that yields the frames of one video in presentation order, once.

    i_frames_only: decode only what can be decoded by itself (the codec's key frames); the other frames are counted by
    their packets, so that index and time are those of the full reading. Raises PermanentError.

    Valid after entering: facts, claimed_pixel_aspect (of all pictures, by the container; None: they say it themselves).
    Valid after iterating: frames_read, damaged_packets, end_s (when the last frame ends).
    """

    facts: VideoFacts
    claimed_pixel_aspect: float | None

    def __init__(self, path: Path | str, limits: DecodeLimits | None = None, i_frames_only: bool = False) -> None:
        self._path = Path(path)
        self._limits = limits or DecodeLimits()
        self._i_frames_only = i_frames_only

    def __enter__(self) -> VideoReader:
        self._file = open_file(self._path)
        try:
            self._container = open_container(self._file, self._limits)
        except BaseException:
            self._file.close()
            raise
        try:
            self._read_what_comes_out(choose(self._file, self._container, self._limits))
        except BaseException as error:
            self._container.close()
            with self._file:
                # FFmpeg takes some files for sound or for raw video that say of themselves that they are neither.
                if isinstance(error, PermanentError) and error.kind in (ErrorKind.DAMAGED, ErrorKind.NO_VIDEO_STREAM):
                    raise known_content(self._file) or error from error
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # First the generator: one that goes on with a closed container takes the process down (seen with PyAV 18.1).
        self._frames.close()
        self._container.close()
        self._file.close()

    def __iter__(self) -> Iterator[Frame]:
        return self._frames

    def _read_what_comes_out(self, choice: Choice) -> None:
        """Begin to read the first stream of the choice that gives a picture."""
        for index in choice.indexes:
            if len(choice.indexes) > 1:  # the container was read to choose, or for the stream before
                self._container.close()
                self._file.seek(0)
                self._container = open_container(self._file, self._limits)
            try:
                self._begin(self._container.streams[index], choice.others)
                return
            except PermanentError as error:
                if error.kind is not ErrorKind.DAMAGED or index == choice.indexes[-1]:
                    raise

    def _begin(self, stream: Stream, others: int) -> None:
        """Read the first frame of a stream, and with it what there is to say of the video."""
        assert isinstance(stream, VideoStream)
        self._stream = stream
        self._may_jump = bool(self._container.format.flags & AVFMT_TS_DISCONT)
        self._decoder = prepare(stream, self._limits)
        # libvpx does not say which of its pictures are I-frames: those that it decodes alone are.
        self._is_silent_on_i_frames = self._i_frames_only and self._decoder.name in DECODERS_OF_ALPHA.values()
        self._demuxed: list[Stream] = [stream]
        self._pauses = None
        if self._may_jump:
            self._demuxed += self._container.streams.audio
            self._pauses = PauseFinder(self._file, self._container.format.name, stream)
        discard_all_but(self._container, self._demuxed)
        self.frames_read = self.damaged_packets = 0
        self.end_s = 0.0
        self._tally = Tally()
        self._orientation, self._rotation_deg = UPRIGHT, 0
        self._framing = Framing(self._container, stream)
        self.claimed_pixel_aspect = self._framing.claimed_pixel_aspect
        self._refuse_if_too_large(self._stream.width, self._stream.height)
        if not self._may_jump:  # else the difference of two clocks
            self._refuse_if_too_long(_header_duration_s(self._container, self._stream) or 0.0)
        self._times_by_dts = self._container.format.name in CONTAINERS_WITHOUT_PTS
        self._clock = self._new_clock()
        frames = self._i_frames() if self._i_frames_only else self._all_frames()
        first = next(frames, None)
        if first is None:
            raise PermanentError(
                ErrorKind.DAMAGED,
                "The file is a video, but not one frame of it could be read: it is damaged, or cut off before its "
                "first picture. Check that it plays, and send it again.",
            )
        self.facts = _facts(self._container, self._stream, self._decoder, self._framing, first, others)
        self._frames = _after(first, frames, self._tally)

    def _refuse_if_too_large(self, width_px: int, height_px: int) -> None:
        if width_px * height_px > self._limits.max_pixels:
            raise PermanentError(
                ErrorKind.TOO_LARGE,
                f"The video's frames are {width_px} × {height_px} pixels, and at most {self._limits.max_pixels:,} "
                "pixels are allowed. Send a smaller version.",
            )

    def _refuse_if_too_long(self, duration_s: float) -> None:
        if duration_s > self._limits.max_duration_s:
            raise PermanentError(
                ErrorKind.TOO_LONG,
                f"The video is longer than the {self._limits.max_duration_s:,.0f} seconds that are allowed. "
                "Send it in parts.",
            )

    def _new_clock(self) -> StreamClock:
        rate_hz = self._stream.guessed_rate or self._stream.average_rate or DEFAULT_RATE_HZ
        start_ticks = None if self._times_by_dts else self._stream.start_time
        time_base = self._stream.time_base or 1 / DEFAULT_RATE_HZ
        pauses_ticks = self._pauses.found if self._pauses else ()
        return StreamClock(time_base, start_ticks, 1 / rate_hz, self._may_jump, pauses_ticks)

    def _count(self, ticks: int | None, duration_ticks: int | None) -> tuple[int, float, float]:
        """Count the next frame in presentation order; return its index, time and end."""
        if self.frames_read >= self._limits.max_frames:
            raise PermanentError(
                ErrorKind.TOO_LONG,
                f"The video has more than the {self._limits.max_frames:,} frames that are allowed. Send it in parts.",
            )
        index = self.frames_read
        self.frames_read += 1
        # An AVI's ticks are fields as often as frames, so only its rate tells how long a frame lasts.
        time_s, end_s = self._clock.read(ticks, None if self._times_by_dts else duration_ticks)
        self._refuse_if_too_long(time_s)
        self.end_s = max(self.end_s, end_s)
        return index, time_s, end_s

    def _all_frames(self) -> Iterator[Frame]:
        for packet in self._packets():
            for picture in self._decode(packet):
                ticks = picture.dts if self._times_by_dts else picture.pts
                yield self._frame(picture, *self._count(ticks, picture.duration))

    def _frame(self, picture: VideoFrame, index: int, time_s: float, end_s: float) -> Frame:
        is_i_frame = picture.key_frame or picture.pict_type == PictureType.I or self._is_silent_on_i_frames
        # What a stream says of it with an I-frame holds until the next; FFmpeg passes it on for the I-frame alone.
        if is_i_frame or picture.rotation not in (0, self._rotation_deg):
            self._orientation, self._rotation_deg = orientation_of(picture), picture.rotation
        whole = self._framing.whole(picture)
        return Frame(index, time_s, end_s, picture.pts, is_i_frame, picture.is_corrupt, whole, self._orientation)

    def _i_frames(self) -> Iterator[Frame]:
        for index, time_s, end_s, packet in self._counted_packets():
            if not packet.is_keyframe:
                continue
            # Alone and flushed, so that the decoder neither waits for later frames nor refers to earlier ones.
            pictures = [*self._decode(packet), *self._decode(None)]
            self._decoder.flush_buffers()
            for picture in pictures[:1]:
                yield self._frame(picture, index, time_s, end_s)

    def _counted_packets(self) -> Iterator[tuple[int, float, float, Packet[VideoStream]]]:
        """Yield (index, time_s, end_s, packet) in presentation order.

        No later packet can be shown before the current packet is decoded, so everything shown up to then is in order.
        """
        waiting: list[tuple[int, int, Packet[VideoStream]]] = []
        order = itertools.count()
        last_dts: int | None = None

        def pop() -> tuple[int, float, float, Packet[VideoStream]]:
            ticks, _, packet = heapq.heappop(waiting)
            return *self._count(ticks, packet.duration), packet

        for packet in self._packets():
            if packet.size == 0 or packet.is_discard:
                continue
            clock_restarted = last_dts is not None and packet.dts is not None and packet.dts < last_dts
            ticks = packet.dts if self._times_by_dts else packet.pts
            while waiting and (ticks is None or clock_restarted or len(waiting) > MAX_REORDERED_PACKETS):
                yield pop()
            if ticks is None:
                yield *self._count(None, packet.duration), packet
                continue
            while waiting and packet.dts is not None and waiting[0][0] <= packet.dts:
                yield pop()
            heapq.heappush(waiting, (ticks, next(order), packet))
            last_dts = packet.dts
        while waiting:
            yield pop()

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        """Yield every packet that can be read, the empty one that flushes the decoder last."""
        for packet in packets(self._container, self._demuxed, self._limits):
            if packet is None:
                self.damaged_packets += 1
            elif self._pauses is None or self._pauses.watch(packet):
                yield packet

    def _decode(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        # A packet that is only there for the pictures after it gives none, and that is no damage.
        size_bytes = 0 if packet is None or packet.is_discard else packet.size
        try:
            pictures = self._decoder.decode(packet)
        except FFmpegError as error:
            refuse_if_memory_is_short(self._limits, error)
            self.damaged_packets += 1
            self._tally.count(size_bytes, [], has_failed=True)
            return []
        for picture in pictures:
            self._refuse_if_too_large(picture.width, picture.height)
        self._tally.count(size_bytes, pictures, has_failed=False)
        return pictures


def _after(first: Frame, frames: Iterator[Frame], tally: Tally) -> Generator[Frame, None, None]:
    yield first
    del first  # a decoded picture is megabytes
    yield from frames
    tally.refuse_if_mostly_damaged()


def _header_duration_s(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def _facts(
    container: InputContainer,
    stream: VideoStream,
    decoder: VideoCodecContext,
    framing: Framing,
    first: Frame,
    others: int,
) -> VideoFacts:
    pixel_aspect = framing.claimed_pixel_aspect or pixel_aspect_of(first.picture)
    width_px, height_px = max(1, round(first.picture.width * pixel_aspect)), first.picture.height
    if first.orientation.is_transposed:
        width_px, height_px = height_px, width_px
    start_s = float((stream.start_time or 0) * (stream.time_base or 0)) - (container.start_time or 0) / av.time_base
    return VideoFacts(
        container=container.format.name,
        codec=stream.codec_context.codec.canonical_name,
        pixel_format=decoder.pix_fmt or first.picture.format.name,
        width_px=width_px,
        height_px=height_px,
        rotation_deg=-first.picture.rotation % 360,
        pixel_aspect=pixel_aspect,
        average_rate_hz=float(stream.average_rate) if stream.average_rate else None,
        header_duration_s=_header_duration_s(container, stream),
        start_s=start_s,
        has_audio=bool(container.streams.audio),
        other_videos=others,
        notes=(*framing.notes(first.picture), *_note_on_others(others)),
    )


def _note_on_others(others: int) -> tuple[str, ...]:
    if not others:
        return ()
    further = "one further video" if others == 1 else f"{others} further videos"
    return (f"The file holds {further}, not looked at. To have those too, save each as a file of its own.",)
