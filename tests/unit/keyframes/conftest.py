"""Synthetic videos whose truth is known, written with PyAV when a test asks for them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace

NUMBER_BITS = 10


def numbered(index: int, width: int = 160, height: int = 96) -> np.ndarray:
    """A picture that carries its index as ten black or white columns in its upper half; uint8 (H, W, 3) RGB."""
    picture = np.full((height, width, 3), 90, np.uint8)
    column = width // NUMBER_BITS
    for bit in range(NUMBER_BITS):
        picture[: height // 2, bit * column : (bit + 1) * column] = 235 if index >> bit & 1 else 20
    return picture


def read_number(picture: np.ndarray) -> int:
    """The index in a picture made by `numbered`, whatever its size by now."""
    height, width = picture.shape[:2]
    centers = [int((bit + 0.5) * (width // 10 * 10) / NUMBER_BITS) for bit in range(NUMBER_BITS)]
    row = picture[height // 4, :, 1]
    return sum(1 << bit for bit, x in enumerate(centers) if row[x] > 128)


def texture(seed: int, width: int = 160, height: int = 96) -> np.ndarray:
    """A still of its own colours and shapes for every seed; uint8 (H, W, 3) RGB."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC))


def corners(width: int = 160, height: int = 96) -> np.ndarray:
    """Red, green (top), blue and black (bottom) quarters; uint8 (H, W, 3) RGB."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2, 0] = 255
    picture[: height // 2, width // 2 :, 1] = 255
    picture[height // 2 :, : width // 2, 2] = 255
    return picture


WriteVideo = Callable[..., Path]


@pytest.fixture
def write_video(tmp_path: Path) -> WriteVideo:
    """A function that writes pictures (uint8 RGB) as a video file and returns its path."""

    def write(
        pictures: Iterable[np.ndarray],
        name: str = "video.mp4",
        *,
        codec: str = "libx264",
        container: str | None = None,
        pixel_format: str = "yuv420p",
        rate_hz: int = 25,
        ticks: Iterable[int] | None = None,
        time_base: Fraction | None = None,
        options: dict[str, str] | None = None,
        rotation_deg: int | None = None,
        is_mirrored: bool = False,
        pixel_aspect: Fraction | None = None,
        colorspace: Colorspace | None = None,
        transfer: int | None = None,
        container_options: dict[str, str] | None = None,
    ) -> Path:
        path = tmp_path / name
        time_base = time_base or Fraction(1, rate_hz)
        times = iter(ticks) if ticks is not None else iter(range(1_000_000))
        with av.open(str(path), "w", format=container, options=container_options or {}) as output:
            stream = None
            for picture in pictures:
                if stream is None:
                    stream = output.add_stream(codec, rate=rate_hz, options=options or {})
                    stream.height, stream.width = picture.shape[:2]
                    stream.pix_fmt = pixel_format
                    stream.codec_context.time_base = time_base
                    if pixel_aspect is not None:
                        stream.codec_context.sample_aspect_ratio = pixel_aspect
                    if rotation_deg is not None:
                        stream.set_display_rotation(rotation_deg, hflip=is_mirrored)
                    if transfer is not None:
                        stream.codec_context.color_trc = transfer
                        stream.codec_context.color_primaries = stream.codec_context.colorspace = 9  # BT.2020
                frame = VideoFrame.from_ndarray(picture, "rgb24").reformat(
                    format=pixel_format, dst_colorspace=colorspace
                )
                frame.pts, frame.time_base = next(times), time_base
                output.mux(stream.encode(frame))
            if stream is None:  # a video of no frames
                stream = output.add_stream(codec, rate=rate_hz)
                stream.width, stream.height, stream.pix_fmt = 160, 96, pixel_format
                output.start_encoding()
            output.mux(stream.encode(None))
        return path

    return write


@pytest.fixture
def write_sound(tmp_path: Path) -> WriteVideo:
    """A function that writes half a second of silence, with a cover picture if asked, and returns the path."""

    def write(name: str = "sound.mp4", codec: str = "aac", cover: np.ndarray | None = None) -> Path:
        path = tmp_path / name
        with av.open(str(path), "w") as output:
            stream = output.add_stream(codec, rate=44_100, layout="mono")
            picture = None
            if cover is not None:
                picture = output.add_stream("mjpeg", rate=1)
                picture.height, picture.width = cover.shape[:2]
                picture.pix_fmt = "yuvj420p"
                picture.disposition = av.stream.Disposition.attached_pic
            if picture is not None:
                output.mux(picture.encode(VideoFrame.from_ndarray(cover, "rgb24").reformat(format="yuvj420p")))
            for number in range(20):
                samples = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.float32), "fltp", "mono")
                samples.sample_rate, samples.pts = 44_100, number * 1152
                output.mux(stream.encode(samples))
            output.mux(stream.encode(None))
        return path

    return write


@pytest.fixture
def damage() -> Callable[..., Path]:
    """A function that overwrites spots inside a file's packets, which leaves its index and first picture whole."""

    def overwrite(path: Path, spots: int, seed: int = 0) -> Path:
        with av.open(str(path)) as container:
            packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size][1:]
        chosen = random.Random(seed).sample(packets, spots)
        data = bytearray(path.read_bytes())
        for position, size in chosen:
            start = position + size // 3
            data[start : start + 8] = random.Random(position).randbytes(8)
        damaged = path.with_stem(f"{path.stem}_damaged")
        damaged.write_bytes(data)
        return damaged

    return overwrite


@pytest.fixture
def numbered_pictures() -> Callable[[int], Iterator[np.ndarray]]:
    """A function that gives the first n pictures carrying their own index."""
    return lambda count: (numbered(index) for index in range(count))


@pytest.fixture
def number_of() -> Callable[[np.ndarray], int]:
    """A function that reads the index a picture carries."""
    return read_number


@pytest.fixture
def texture_of() -> Callable[..., np.ndarray]:
    """A function that gives a still of its own for every seed."""
    return texture


@pytest.fixture
def corner_picture() -> np.ndarray:
    """Red and green above, blue and black below."""
    return corners()


@pytest.fixture
def three_shots(write_video: WriteVideo) -> Path:
    """Three shots of distinct, slowly drifting textures; cuts before frames 30 and 60 of 90, 25 a second."""

    def pictures() -> Iterator[np.ndarray]:
        for index in range(90):
            wide = texture(index // 30, width=220)
            yield wide[:, index % 30 : index % 30 + 160]

    return write_video(pictures(), "three_shots.mp4")


@pytest.fixture
def write_tracks(tmp_path: Path) -> Callable[..., Path]:
    """A function that puts the videos of several files into one, each as a track of its own, and returns the path.

    tracks: a file, or a file with how many of its packets to take and what to do with each one's bytes.
    """

    def write(name: str, *tracks: Path | tuple[Path, int, Callable[[bytes], bytes]]) -> Path:
        path = tmp_path / name
        packets = []
        with ExitStack() as stack:
            output = stack.enter_context(av.open(str(path), "w"))
            for track in tracks:
                file, count, change = track if isinstance(track, tuple) else (track, 1_000_000, bytes)
                source = stack.enter_context(av.open(str(file)))
                stream = output.add_stream_from_template(source.streams.video[0])
                for packet in itertools.islice(source.demux(video=0), count):
                    if packet.size:
                        changed = av.Packet(change(bytes(packet)))
                        changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
                        changed.duration, changed.is_keyframe = packet.duration, packet.is_keyframe
                        changed.stream = stream
                        packets.append((packet.dts * packet.time_base, changed))
            output.start_encoding()
            for _, packet in sorted(packets, key=lambda timed: timed[0]):
                output.mux(packet)
        return path

    return write
