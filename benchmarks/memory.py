"""Measures the memory that key frames of a long 1080p video take: `python -m benchmarks.memory [--minutes 10]`.

Writes a video of moving textures with a cut every four seconds, and prints the resident memory of the process that
extracts its key frames while it does.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import av
import numpy as np

from services.keyframes.cell.decoder import Decoder

RATE_HZ = 25
WIDTH_PX, HEIGHT_PX = 1920, 1080
SHOT_FRAMES = 4 * RATE_HZ
TEXTURES = 8
STEP_PX = 4


def write_video(path: Path, minutes: float) -> None:
    """H.264; each shot slides over one of a few textures, so that the decoder has real work."""
    rng = np.random.default_rng(0)
    travel_px = SHOT_FRAMES * STEP_PX
    textures = [
        rng.integers(0, 256, (18, (WIDTH_PX + travel_px) // 60, 3), dtype=np.uint8).repeat(60, 0).repeat(60, 1)
        for _ in range(TEXTURES)
    ]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE_HZ, options={"preset": "ultrafast", "crf": "28"})
        stream.width, stream.height, stream.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
        for index in range(int(minutes * 60 * RATE_HZ)):
            texture = textures[index // SHOT_FRAMES % TEXTURES]
            left = index % SHOT_FRAMES * STEP_PX
            view = np.ascontiguousarray(texture[:HEIGHT_PX, left : left + WIDTH_PX])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="rgb24")))
        container.mux(stream.encode())


def resident_mb(pid: int) -> float:
    """Resident memory of a process, in megabytes."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--strategy", default="shots")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Decoder() as decoder:
        video = Path(folder, "long.mp4")
        write_video(video, arguments.minutes)
        samples: list[float] = []

        def sample() -> None:
            if decoder.reader_pid is not None:
                samples.append(resident_mb(decoder.reader_pid))

        started = time.monotonic()
        extraction = decoder.extract(video, Path(folder, "pictures"), arguments.strategy, check=sample)
        took_s = time.monotonic() - started
    tenths = [max(part) for part in np.array_split(samples, 10) if len(part)]
    print(f"{extraction.frames} frames, {len(extraction.key_frames)} key frames in {took_s:.0f} s")
    print("resident memory in MB, the most in each tenth of the time: " + ", ".join(f"{mb:.0f}" for mb in tenths))


if __name__ == "__main__":
    main()
