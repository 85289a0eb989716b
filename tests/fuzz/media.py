"""Feeds mutated media files to the decoder: `python -m tests.fuzz.media [--count 2000] [--seed 1] [--data DIR]`.

Every file is made from the seed and its number, so that `--only NUMBER --keep FILE` makes one of them again. Ends with
1 where something went wrong: an outcome that is neither key frames nor a sentence for people, a defect of ours, a file
that held the decoder longer than it may, or a helper that grew.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import av
import cv2
import numpy as np
from av.container import Flags
from av.error import FFmpegError

from services.keyframes.cell.decoder import Decoder
from services.keyframes.extraction import Extraction, strategy_names
from services.keyframes.reading.limits import DecodeLimits
from shared.errors import ErrorKind, ReelmapError

LIMITS = DecodeLimits(max_frames=3000, max_memory_bytes=2 * 2**30, max_cpu_s=10, max_wall_s=20)
# From the limit to the end of the process.
MARGIN_S = 3.0
# After so many files the helper has done everything once.
WARM_UP = 10
MAX_GROWTH_BYTES = 4 * 2**20
HEAD_PACKETS = 30
HEAD_BYTES = 150_000
# Nothing that is drawn by lot or depends on threads, so that a run can be made again.
ENCODING = {
    "strict": "experimental",
    "flags": "+bitexact",
    "threads": "1",
    "x264-params": "rc-lookahead=0:mbtree=0",
    "x265-params": "pools=none:frame-threads=1:log-level=none",
}
FORMATS = (
    ("mp4", "libx264", "yuv420p"),
    ("mp4", "libx265", "yuv420p10le"),
    ("mp4", "mpeg4", "yuv420p"),
    ("mov", "png", "rgb24"),
    ("mov", "prores", "yuv422p10le"),
    ("matroska", "libx264", "yuv444p"),
    ("matroska", "ffv1", "yuv420p"),
    ("webm", "libvpx", "yuv420p"),
    ("webm", "libvpx-vp9", "yuv420p"),
    ("avi", "mpeg4", "yuv420p"),
    ("avi", "mjpeg", "yuvj420p"),
    ("avi", "huffyuv", "rgb24"),
    ("mpegts", "mpeg2video", "yuv420p"),
    ("mpeg", "mpeg1video", "yuv420p"),
    ("flv", "flv", "yuv420p"),
    ("asf", "wmv2", "yuv420p"),
    ("nut", "snow", "yuv420p"),
    ("ivf", "libvpx", "yuv420p"),
    ("h264", "libx264", "yuv420p"),
    ("mxf", "mpeg2video", "yuv420p"),
    ("yuv4mpegpipe", "wrapped_avframe", "yuv420p"),
    ("mjpeg", "mjpeg", "yuvj420p"),
)


@dataclass
class Report:
    """What came of the files. faults: what must not happen, as sentences."""

    tried: int = 0
    extracted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    hangs: int = 0
    growth_bytes: int = 0
    growth_files: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        refused = ", ".join(
            f"{count} {kind}" for kind, count in self.refused.most_common() if kind != "decoder_crashed"
        )
        return (
            f"{self.tried} tried, {self.extracted} extracted, refused: {refused or 'none'}; "
            f"{self.refused[ErrorKind.DECODER_CRASHED]} crashes contained, {self.hangs} hangs "
            f"(slowest {self.slowest_s:.1f} s), helper grew by {self.growth_bytes / 1e6:.1f} MB and "
            f"{self.growth_files} open files; {len(self.faults)} faults"
        )


def seeds(data_dir: Path | None = None) -> list[bytes]:
    """Small whole videos of many formats, and the first frames of the real clips in `data_dir`."""
    with tempfile.TemporaryDirectory() as folder:
        made = [_write(Path(folder, f"{number}"), *format) for number, format in enumerate(FORMATS)]
        clips = sorted(path for path in (data_dir / "videos").iterdir() if path.suffix != ".json") if data_dir else []
        return made + [_head(clip, Path(folder, "head")) for clip in clips]


def _write(path: Path, container: str, codec: str, pixel_format: str) -> bytes:
    rng = np.random.default_rng(0)
    shots = [cv2.resize(rng.integers(0, 256, (6, 9, 3), np.uint8), (96, 64)) for _ in range(2)]
    with av.open(str(path), "w", format=container) as output:
        output.flags |= Flags.bitexact.value
        stream = output.add_stream(codec, rate=25, options=ENCODING)
        stream.width, stream.height, stream.pix_fmt = 96, 64, pixel_format
        for index in range(20):
            picture = np.roll(shots[index // 10], index, axis=1)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pixel_format)
            frame.pts = index
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path.read_bytes()


def _head(clip: Path, path: Path) -> bytes:
    """The first packets of the clip's video in its own container, in Matroska, or else as they lie in the file."""
    with av.open(str(clip), metadata_errors="ignore") as source:
        own = source.format.name.partition(",")[0]
        packets = [packet for packet in itertools.islice(source.demux(video=0), HEAD_PACKETS) if packet.dts is not None]
        for container in (own, "matroska"):
            with suppress(FFmpegError, ValueError):
                with av.open(str(path), "w", format=container) as output:
                    output.flags |= Flags.bitexact.value
                    copy = output.add_stream_from_template(source.streams.video[0])
                    for packet in packets:
                        packet.stream = copy
                        output.mux(packet)
                return path.read_bytes()
    return clip.read_bytes()[:HEAD_BYTES]


def mutated(number: int, seed: int, corpus: Sequence[bytes]) -> bytes:
    """File `number` of the run."""
    rng = Random(f"{seed}:{number}")
    data = bytearray(corpus[number % len(corpus)])
    for _ in range(rng.randint(1, 4)):
        rng.choice(MUTATIONS)(data, rng, corpus)
        if not data:
            data += b"\0"
    return bytes(data)


def _flip_bits(data: bytearray, rng: Random, corpus: Sequence[bytes]) -> None:
    for _ in range(rng.choice((1, 4, 32, 256))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _truncate(data: bytearray, rng: Random, corpus: Sequence[bytes]) -> None:
    del data[rng.randrange(len(data)) :]


def _edit_header(data: bytearray, rng: Random, corpus: Sequence[bytes]) -> None:
    start = 0 if rng.random() < 0.7 else max(0, len(data) - 2048)
    for _ in range(rng.randint(1, 12)):
        at = start + rng.randrange(min(1024, len(data) - start))
        data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _lie_about_length(data: bytearray, rng: Random, corpus: Sequence[bytes]) -> None:
    """Replace what may be a length, which is a small number in four bytes, by another."""
    order = rng.choice(("big", "little"))
    start = rng.randrange(len(data))
    for at in range(start, min(len(data) - 4, start + 4096)):
        if 0 < int.from_bytes(data[at : at + 4], order) < 65536:
            lie = rng.choice(
                (0, 1, 7, 8, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, rng.randrange(2**20), rng.randrange(2**32))
            )
            data[at : at + 4] = lie.to_bytes(4, order)
            return


def _move_chunk(data: bytearray, rng: Random, corpus: Sequence[bytes]) -> None:
    start = rng.randrange(len(data))
    chunk = data[start : start + rng.randint(1, 8192)]
    del data[start : start + len(chunk)]
    at = rng.randrange(len(data) + 1)
    data[at:at] = chunk


def _repeat_chunk(data: bytearray, rng: Random, corpus: Sequence[bytes]) -> None:
    start = rng.randrange(len(data))
    data[start:start] = data[start : start + rng.randint(1, 4096)] * rng.randint(1, 20)


def _splice(data: bytearray, rng: Random, corpus: Sequence[bytes]) -> None:
    other = corpus[rng.randrange(len(corpus))]
    data[rng.randrange(len(data)) :] = other[rng.randrange(len(other)) :]


def _fill(data: bytearray, rng: Random, corpus: Sequence[bytes]) -> None:
    start = rng.randrange(len(data))
    size = min(rng.randint(1, 2048), len(data) - start)
    data[start : start + size] = rng.choice((bytes(size), b"\xff" * size, rng.randbytes(size)))


Mutation = Callable[[bytearray, Random, Sequence[bytes]], None]
MUTATIONS: tuple[Mutation, ...] = (
    _flip_bits,
    _truncate,
    _edit_header,
    _lie_about_length,
    _move_chunk,
    _repeat_chunk,
    _splice,
    _fill,
)


def attack(numbers: Sequence[int], seed: int, corpus: Sequence[bytes], limits: DecodeLimits = LIMITS) -> Report:
    """Have the decoder read the mutated files of these numbers."""
    report = Report()
    with tempfile.TemporaryDirectory() as folder, Decoder() as decoder:
        before = (0, 0)
        helper_pid: int | None = None
        for count, number in enumerate(numbers):
            if count == WARM_UP:
                helper_pid, before = decoder.helper_pid, _size(decoder)
            _try(decoder, number, mutated(number, seed, corpus), Path(folder), limits, report)
            left = {path.name for path in Path(folder).iterdir()}
            if left:
                report.faults.append(f"file {number} left {left} behind")
        if helper_pid and decoder.helper_pid == helper_pid:
            report.growth_bytes, report.growth_files = (
                now - then for now, then in zip(_size(decoder), before, strict=True)
            )
        elif helper_pid:
            report.faults.append("the helper was replaced")
    if report.growth_bytes > MAX_GROWTH_BYTES or report.growth_files > 0:
        report.faults.append("the helper grew")
    return report


def _try(decoder: Decoder, number: int, data: bytes, folder: Path, limits: DecodeLimits, report: Report) -> None:
    path, out_dir = folder / "file", folder / "out"
    path.write_bytes(data)
    strategies = strategy_names()
    started = time.monotonic()
    try:
        extraction = decoder.extract(path, out_dir, strategies[number % len(strategies)], limits=limits)
        report.extracted += 1
        _judge(extraction, number, report)
    except ReelmapError as error:
        report.refused[error.kind] += 1
        if error.kind is ErrorKind.INTERNAL or not error.message:
            report.faults.append(f"file {number}: {error!r}")
    except Exception as error:
        report.faults.append(f"file {number}: {error!r}")
    took_s = time.monotonic() - started
    report.tried += 1
    report.slowest_s = max(report.slowest_s, took_s)
    if took_s > limits.max_wall_s + MARGIN_S:
        report.hangs += 1
        report.faults.append(f"file {number} took {took_s:.1f} s")
    path.unlink()
    shutil.rmtree(out_dir)


def _judge(extraction: Extraction, number: int, report: Report) -> None:
    times = [key_frame.time_s for key_frame in extraction.key_frames]
    if not times or times != sorted(times) or extraction.frames < len(times):
        report.faults.append(f"file {number}: key frames out of order")
    if any(cv2.imread(str(key_frame.file)) is None for key_frame in extraction.key_frames):
        report.faults.append(f"file {number}: a picture that cannot be read")


def _size(decoder: Decoder) -> tuple[int, int]:
    """Resident bytes and open files of the helper; zeros where the system does not say."""
    process = Path("/proc", str(decoder.helper_pid))
    if not process.is_dir():
        return 0, 0
    line = next(line for line in (process / "status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024, len(list((process / "fd").iterdir()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--data", type=Path, help="a folder with real clips in videos/, of which the heads are used too"
    )
    parser.add_argument("--only", type=int, help="just the file of this number")
    parser.add_argument("--keep", type=Path, help="where to write that file")
    arguments = parser.parse_args()
    corpus = seeds(arguments.data)
    if arguments.keep:
        arguments.keep.write_bytes(mutated(arguments.only, arguments.seed, corpus))
    numbers = range(arguments.count) if arguments.only is None else [arguments.only]
    report = attack(numbers, arguments.seed, corpus)
    for fault in report.faults:
        print(fault)
    print(f"seed {arguments.seed}: {report}")
    sys.exit(bool(report.faults))


if __name__ == "__main__":
    main()
