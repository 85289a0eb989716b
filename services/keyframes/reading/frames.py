"""Reads the frames of a video file with PyAV, one after the other, with exact times, and turns frames into pictures.

What is read is hostile or broken as a rule: a damaged packet costs its own frames and no others, limits hold while
reading, and FFmpeg is handed the one open file: it opens nothing itself, no other file and no connection.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import mmap
import os
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, NoReturn

import av
import numpy as np
from av.codec.context import ThreadType
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Discard, Disposition
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import Colorspace, Interpolation
from av.video.stream import VideoStream
from numpy.typing import NDArray

from services.keyframes.reading import hdr
from services.keyframes.reading.timestamps import StreamClock
from shared.errors import ErrorKind, PermanentError

# Demuxers of moving pictures and of the sound files people send by mistake. Left out on purpose: single pictures, text
# (FFmpeg draws it), playlists and everything else that reads other files.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,asf,flv,live_flv,kux,ogg,rm,mxf,dv,nut,ivf,obu,av1,"
    "h261,h263,h264,hevc,m4v,vc1,wtv,mp3,wav,w64,flac,aac,ac3,eac3,amr,aiff,caf,ape,wv"
)
# HEIF and AVIF photographs use the MP4 container; these brands say so. https://mp4ra.org/registered-types/brands
PICTURE_BRANDS = frozenset({"avif", "heic", "heim", "heis", "heix", "mif1"})
# An AVI stores no presentation times. FFmpeg invents some, which go back and forth where there are B frames; the times
# at which frames leave the decoder (`dts`) are evenly spaced and late by the decoder's delay.
CONTAINERS_WITHOUT_PTS = frozenset({"avi"})
# How files begin that would be videos if the rest of them were there.
CONTAINER_STARTS = {
    "an MP4": re.compile(rb".{4}(ftyp|moov|mdat|wide)", re.DOTALL),
    "a Matroska or WebM file": re.compile(rb"\x1a\x45\xdf\xa3"),
    "an AVI": re.compile(rb"RIFF.{4}AVI ", re.DOTALL),
    "a Flash video": re.compile(rb"FLV\x01"),
}
# FFmpeg's own assumption for streams that do not tell their rate.
DEFAULT_RATE_HZ = Fraction(25)
# A demuxer that fails this often in a row makes no progress any more.
MAX_DEMUX_FAILURES = 100
# H.264 and HEVC reorder at most 16 frames; more waiting packets mean that decoding times are missing.
MAX_REORDERED_PACKETS = 64
# Unlabelled YUV is BT.709 from this many lines on, BT.601 below, as players assume.
HD_LINES = 720
AVCOL_SPC_UNSPECIFIED = 2
# Where less than this is to be had, memory is short. The largest frame that is allowed takes about as much.
LITTLE_MEMORY_BYTES = 256 * 2**20
AVFMT_TS_DISCONT = 0x0200  # the clock of such a container can be set anew within a file


@dataclass(frozen=True)
class DecodeLimits:
    """What a video may ask of the decoder; checked while reading.

    max_memory_bytes, max_cpu_s and max_wall_s hold in a process of its own only, see `services.keyframes.cell.decoder`.
    """

    max_duration_s: float = 6 * 3600.0
    max_frames: int = 2_000_000
    max_pixels: int = 8192 * 4352  # per frame: 8K with the rows that codecs add
    max_streams: int = 64
    max_memory_bytes: int = 4 * 2**30  # twice what 8K with 10 bits and 16 reference frames takes
    max_cpu_s: int = 6 * 3600
    max_wall_s: float = 12 * 3600.0


@dataclass(frozen=True, slots=True)
class Frame:
    """A decoded frame.

    index: its place in presentation order, from 0. time_s: when it is shown, by the stream's own timestamps, since the
    stream's start; strictly increasing. end_s: when its own duration ends. pts: the stream's timestamp, if it has one.
    picture: as decoded; not rotated, not stretched.
    """

    index: int
    time_s: float
    end_s: float
    pts: int | None
    is_i_frame: bool
    is_corrupt: bool
    picture: VideoFrame


class Orientation(NamedTuple):
    """How a decoded picture becomes upright: swap rows and columns first, then mirror."""

    is_transposed: bool
    is_mirrored_horizontally: bool
    is_mirrored_vertically: bool


@dataclass(frozen=True)
class VideoFacts:
    """What the file says about its video, and what the first readable frame shows.

    container, codec, pixel_format: FFmpeg's names. width_px, height_px: as displayed, upright with square pixels.
    rotation_deg: how far the decoded picture is turned clockwise for display, by FFmpeg's reading of the header;
    orientation says the same, with mirroring. pixel_aspect: width of a pixel / height.
    average_rate_hz, header_duration_s: None where the file does not say. start_s: how much later than the file's first
    stream this one starts; add it to a frame's time to find the frame in a player.
    """

    container: str
    codec: str
    pixel_format: str
    width_px: int
    height_px: int
    rotation_deg: int
    orientation: Orientation
    pixel_aspect: float
    average_rate_hz: float | None
    header_duration_s: float | None
    start_s: float
    has_audio: bool


class VideoReader:
    """A context manager that yields the frames of one video in presentation order, once.

    i_frames_only: decode only what can be decoded by itself (the codec's key frames); the other frames are counted by
    their packets, so that index and time are those of the full reading. Raises PermanentError.

    Valid after entering: facts. Valid after iterating: frames_read, damaged_packets, end_s (when the last frame ends).
    """

    facts: VideoFacts

    def __init__(self, path: Path | str, limits: DecodeLimits | None = None, i_frames_only: bool = False) -> None:
        self.frames_read = 0
        self.damaged_packets = 0
        self.end_s = 0.0
        self._path = Path(path)
        self._limits = limits or DecodeLimits()
        self._i_frames_only = i_frames_only

    def __enter__(self) -> VideoReader:
        self._file = _open_file(self._path)
        try:
            self._container = _open(self._file, self._limits)
        except BaseException:
            self._file.close()
            raise
        try:
            self._stream = _choose_stream(self._container, self._limits)
            self._refuse_if_too_large(self._stream.width, self._stream.height)
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
            self.facts = _facts(self._container, self._stream, first.picture)
            self._frames = _after(first, frames)
        except BaseException:
            self._container.close()
            self._file.close()
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
        may_jump = bool(self._container.format.flags & AVFMT_TS_DISCONT)
        return StreamClock(self._stream.time_base or 1 / DEFAULT_RATE_HZ, start_ticks, 1 / rate_hz, may_jump)

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
                yield _frame(picture, *self._count(ticks, picture.duration))

    def _i_frames(self) -> Iterator[Frame]:
        for index, time_s, end_s, packet in self._counted_packets():
            if not packet.is_keyframe:
                continue
            # Alone and flushed, so that the decoder neither waits for later frames nor refers to earlier ones.
            pictures = [*self._decode(packet), *self._decode(None)]
            self._stream.codec_context.flush_buffers()
            for picture in pictures[:1]:
                yield _frame(picture, index, time_s, end_s)

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
        packets = self._container.demux(self._stream)
        failures = 0
        while failures < MAX_DEMUX_FAILURES:
            try:
                yield next(packets)
                failures = 0
            except StopIteration:
                return
            except IndexError:
                # A packet of a stream that appeared only now, which PyAV does not know; it is not the one we read.
                packets = self._container.demux(self._stream)
            except FFmpegError as error:
                _refuse_if_memory_is_short(self._limits, error)
                self.damaged_packets += 1
                failures += 1
                packets = self._container.demux(self._stream)

    def _decode(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        try:
            pictures = self._stream.decode(packet)
        except FFmpegError as error:
            _refuse_if_memory_is_short(self._limits, error)
            self.damaged_packets += 1
            return []
        for picture in pictures:
            self._refuse_if_too_large(picture.width, picture.height)
        return pictures


def rgb(frame: Frame, facts: VideoFacts, max_px: int) -> NDArray[np.uint8]:
    """Return the frame as a person sees it: uint8 (H, W, 3), RGB, upright, square pixels, longest side <= max_px.

    Of an interlaced frame one field is taken, which removes the combing. HDR is brought to the range of BT.709.
    """
    source = frame.picture
    width, height = source.width * facts.pixel_aspect, float(source.height)
    scale = min(1.0, max_px / max(width, height))
    is_hdr = source.color_trc in hdr.TRANSFERS
    is_unlabelled_hd = source.colorspace == AVCOL_SPC_UNSPECIFIED and source.height >= HD_LINES
    picture = (_first_field(source) if source.interlaced_frame else source).reformat(
        width=max(1, round(width * scale)),
        height=max(1, round(height * scale)),
        format="rgb48le" if is_hdr else "rgb24",
        src_colorspace=Colorspace.ITU709 if is_unlabelled_hd else None,
        interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND,
        threads=1,
    )
    lying: NDArray[Any] = picture.to_ndarray()
    upright = _upright(hdr.to_sdr(lying, source.color_trc) if is_hdr else lying, facts.orientation)
    return np.ascontiguousarray(upright, dtype=np.uint8)


def _upright(picture: NDArray[np.uint8], orientation: Orientation) -> NDArray[np.uint8]:
    if orientation.is_transposed:
        picture = picture.transpose(1, 0, 2)
    if orientation.is_mirrored_horizontally:
        picture = picture[:, ::-1]
    if orientation.is_mirrored_vertically:
        picture = picture[::-1]
    return picture


def _after(first: Frame, frames: Iterator[Frame]) -> Generator[Frame, None, None]:
    yield first
    del first  # a decoded picture is megabytes
    yield from frames


def _frame(picture: VideoFrame, index: int, time_s: float, end_s: float) -> Frame:
    is_i_frame = picture.key_frame or picture.pict_type == PictureType.I
    return Frame(index, time_s, end_s, picture.pts, is_i_frame, picture.is_corrupt, picture)


def _orientation(picture: VideoFrame) -> Orientation:
    """Read the display matrix, rounded to quarter turns: x' = a x + c y, y' = b x + d y (libavutil/display.h)."""
    # Once a video only: `side_data` ties the picture into a reference cycle, and its megabytes stay until the garbage
    # collector comes by.
    side_data: Any = picture.side_data  # PyAV's type stub knows motion vectors only
    matrix = side_data.get(SideDataType.DISPLAYMATRIX)
    if matrix is None:
        return Orientation(False, False, False)
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), np.int32).tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0)


def _first_field(picture: VideoFrame) -> VideoFrame:
    """Copy every second line of each plane, from the first."""
    field = VideoFrame(picture.width, (picture.height + 1) // 2, picture.format.name)
    field.colorspace, field.color_range = picture.colorspace, picture.color_range
    field.color_trc, field.color_primaries = picture.color_trc, picture.color_primaries
    for source, target in zip(picture.planes, field.planes, strict=True):
        lines = np.frombuffer(memoryview(source), np.uint8).reshape(-1, source.line_size)[::2]
        into = np.frombuffer(memoryview(target), np.uint8).reshape(-1, target.line_size)
        size = min(source.line_size, target.line_size)
        into[: len(lines), :size] = lines[: len(into), :size]
    return field


def _open_file(path: Path) -> BinaryIO:
    if not path.exists():
        raise PermanentError(ErrorKind.NOT_FOUND, f"There is no file {path}. Check its name.")
    if not path.is_file():
        raise PermanentError(ErrorKind.NOT_A_VIDEO, f"{path} is not a file. Name the video files inside it.")
    if path.stat().st_size == 0:
        raise PermanentError(ErrorKind.EMPTY, "The file is empty (0 bytes). Check its origin, and send it again.")
    return path.open("rb", buffering=0)  # FFmpeg has a buffer of its own


class _Input:
    """An open file as FFmpeg is given it.

    A place where nobody can read is an answer here: an exception would be raised by PyAV after FFmpeg got over it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.name = file.name  # FFmpeg guesses raw formats by it
        self.read = file.read
        self.tell = file.tell
        self._seek = file.seek

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._seek(offset, whence)
        except OSError as error:
            return -(error.errno or errno.EINVAL)


def _open(file: BinaryIO, limits: DecodeLimits) -> InputContainer:
    try:
        container = av.open(
            _Input(file),
            "r",
            options={
                "protocol_whitelist": "file",
                "format_whitelist": CONTAINERS,
                "enable_drefs": "0",
                **_pixel_limit(limits),
                "threads": "1",
            },
            io_open=_refuse_other_files,
            metadata_errors="ignore",
        )
    except FFmpegError as error:
        _refuse_if_memory_is_short(limits, error)
        raise _not_opened(file) from error
    if container.metadata.get("major_brand", "").strip() in PICTURE_BRANDS:
        container.close()
        raise _not_a_video()
    return container


def _refuse_other_files(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    """What FFmpeg calls when a file names another one that it wants to open."""
    raise PermanentError(
        ErrorKind.NOT_A_VIDEO,
        "The file does not hold its pictures itself but refers to other files, which are never opened. Send the file "
        "that holds them.",
    )


def _refuse_if_memory_is_short(limits: DecodeLimits, error: FFmpegError) -> None:
    """Decoders call a frame damaged for which they get no memory, and say "no memory" of absurd sizes in damaged files.

    So what they say is not looked at: memory is asked for.
    """
    try:
        mmap.mmap(-1, LITTLE_MEMORY_BYTES).close()
    except OSError:
        raise out_of_memory(limits) from error


def out_of_memory(limits: DecodeLimits) -> PermanentError:
    """What to raise where memory ran out."""
    return PermanentError(
        ErrorKind.TOO_LARGE,
        f"The video takes more than the {limits.max_memory_bytes // 2**20:,} MiB of memory that are allowed for "
        "decoding. Send a version with smaller frames.",
    )


def _pixel_limit(limits: DecodeLimits) -> dict[str, str]:
    # FFmpeg counts the padding of its buffers too, and calls what is larger damaged. The reader refuses exactly, and
    # says why; this bounds what is allocated before.
    return {"max_pixels": str(4 * limits.max_pixels)}


def _not_opened(file: BinaryIO) -> PermanentError:
    file.seek(0)
    start = file.read(16)
    container = next((name for name, pattern in CONTAINER_STARTS.items() if pattern.match(start)), None)
    if container is None:
        return _not_a_video()
    return PermanentError(
        ErrorKind.DAMAGED,
        f"The file begins like {container}, but the part that says where its frames are is missing or damaged: most "
        "likely it was cut off. Send the whole file.",
    )


def _not_a_video() -> PermanentError:
    return PermanentError(
        ErrorKind.NOT_A_VIDEO,
        "The file is not a video that can be read: its content is something else (a web page, a picture, a text, an "
        "archive), whatever its name says. Check what the address really delivers.",
    )


def _choose_stream(container: InputContainer, limits: DecodeLimits) -> VideoStream:
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
    decodable = [stream for stream in moving if stream.codec_context is not None]
    if not decodable:
        raise PermanentError(
            ErrorKind.DAMAGED,
            "The file holds a video in a format that FFmpeg cannot decode here, so no frame could be read. Convert it, "
            "to H.264 for example, and send that.",
        )
    # The first that is marked as default, as players do; FFmpeg's own choice is the largest.
    stream = next((stream for stream in decodable if stream.disposition & Disposition.default), decodable[0])
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    stream.codec_context.thread_type = ThreadType.NONE
    stream.codec_context.thread_count = 1
    stream.codec_context.options = _pixel_limit(limits)  # pictures can grow within a stream
    return stream


def _header_duration_s(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def _facts(container: InputContainer, stream: VideoStream, first: VideoFrame) -> VideoFacts:
    pixel_aspect = float(stream.sample_aspect_ratio or 1)
    width_px, height_px = max(1, round(first.width * pixel_aspect)), first.height
    orientation = _orientation(first)
    if orientation.is_transposed:
        width_px, height_px = height_px, width_px
    start_s = float((stream.start_time or 0) * (stream.time_base or 0)) - (container.start_time or 0) / av.time_base
    return VideoFacts(
        container=container.format.name,
        codec=stream.codec_context.codec.canonical_name,
        pixel_format=first.format.name,
        width_px=width_px,
        height_px=height_px,
        rotation_deg=-first.rotation % 360,
        orientation=orientation,
        pixel_aspect=pixel_aspect,
        average_rate_hz=float(stream.average_rate) if stream.average_rate else None,
        header_duration_s=_header_duration_s(container, stream),
        start_s=start_s,
        has_audio=bool(container.streams.audio),
    )
