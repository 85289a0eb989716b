"""Measures how well a strategy's key frames and shots fit clips whose shots are known, beside uniform sampling.

    python -m benchmarks.key_frames --data DIR [--variants] [--rates HZ...] [--clips NAME...]
        [--strategy shots]
    python -m benchmarks.key_frames --screens

DIR holds `videos/` with `ground_truth.json`: for each annotated clip its stable segments [first, last] in frames from
0. Clips without an entry there are traps: a cut found in them is listed, and most are false.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import tempfile
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2

from benchmarks.synthetic_screens import RECORDINGS, write_recording
from benchmarks.synthetic_variants import VARIANTS, Variant, make_variant
from services.keyframes.extraction import load_strategy, make_parameters
from services.keyframes.reading.frames import Frame, VideoReader

# A boundary may lie so many frames beside the true one, or beside the true transition.
TOLERANCE_FRAMES = 2
# A clip whose reduction could reach this much must do so, in aggregate.
CEILING = 0.99

# Each recording of a screen is drawn with so many texts.
SCREEN_SEEDS = (1, 2, 3, 4)

Segment = tuple[int, int]


@dataclass(frozen=True)
class Result:
    """What a strategy found in one file.

    read: the file's index of each frame that the strategy saw. boundaries: start frames of the shots but the first, as
    it counted them, like key_frames.
    """

    read: tuple[int, ...]
    duration_s: float
    boundaries: tuple[int, ...]
    key_frames: tuple[int, ...]
    cpu_s: float
    decode_cpu_s: float


@dataclass(frozen=True)
class Score:
    """How a result fits the truth; scores add up to totals."""

    segments: int = 0
    covered: int = 0
    key_frames: int = 0
    frames: int = 0
    hard: int = 0
    hard_found: int = 0
    gradual: int = 0
    gradual_found: int = 0
    false: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    @property
    def coverage(self) -> float:
        return self.covered / self.segments

    @property
    def key_frames_per_segment(self) -> float:
        return self.key_frames / self.segments

    @property
    def f1(self) -> float:
        found = self.hard_found + self.gradual_found
        return 2 * found / max(1, 2 * found + self.false + self.hard + self.gradual - found)

    @property
    def reduction(self) -> float:
        return 1 - self.key_frames / self.frames

    @property
    def ceiling(self) -> float:
        return 1 - self.segments / self.frames


@dataclass(frozen=True)
class Job:
    """One file to measure. variant: None for the clip as it is. rate_hz: None for all of its frames."""

    name: str
    path: Path
    truth: tuple[Segment, ...]
    tier: str
    variant: Variant | None = None
    rate_hz: float | None = None


def score(result: Result, truth: Sequence[Segment], tolerance_frames: int = TOLERANCE_FRAMES) -> Score:
    """Match each transition with at most one boundary, the nearest, and each segment with the key frames inside it."""
    transitions = [(end + 1, start - 1) for (_, end), (start, _) in itertools.pairwise(truth)]
    free = set(result.boundaries)
    found = {True: 0, False: 0}
    for first, last in transitions:
        near = [one for one in free if first - tolerance_frames <= one <= max(first, last) + tolerance_frames]
        if near:
            free.remove(min(near, key=lambda one: abs(one - (first + last + 1) / 2)))
            found[first > last] += 1
    hard = sum(first > last for first, last in transitions)
    return Score(
        segments=len(truth),
        covered=sum(any(first <= one <= last for one in result.key_frames) for first, last in truth),
        key_frames=len(result.key_frames),
        frames=len(result.read),
        hard=hard,
        hard_found=found[True],
        gradual=len(transitions) - hard,
        gradual_found=found[False],
        false=len(free),
    )


def thinned(frames: Iterator[Frame], rate_hz: float, kept: list[int]) -> Iterator[Frame]:
    """Yield the frames that a recorder with this rate would have stored; note their indices in `kept`."""
    due_s = 0.0
    for frame in frames:
        if frame.time_s >= due_s - 1e-6:
            yield replace(frame, index=len(kept))
            kept.append(frame.index)
            due_s += 1 / rate_hz


def run(
    path: Path,
    strategy: str,
    parameters: dict[str, Any],
    with_decode_time: bool = False,
    rate_hz: float | None = None,
) -> Result:
    """Run a strategy on a file, without writing pictures; with a rate, on so many frames a second of it."""
    module = load_strategy(strategy)
    chosen = make_parameters(module, parameters)
    start_s = time.process_time()
    key_frames = []
    kept: list[int] = []
    with VideoReader(path) as reader:
        frames = iter(reader) if rate_hz is None else thinned(iter(reader), rate_hz, kept)
        selection = module.select(frames, chosen)
        while True:
            try:
                key_frames.append(next(selection).frame.index)
            except StopIteration as stop:
                outline = stop.value
                break
    cpu_s = time.process_time() - start_s
    decode_cpu_s = _decode_cpu_s(path) if with_decode_time else 0.0
    boundaries = tuple(shot.start_frame for shot in outline.shots[1:])
    read = tuple(kept) if rate_hz is not None else tuple(range(reader.frames_read))
    return Result(read, reader.end_s, boundaries, tuple(sorted(key_frames)), cpu_s, decode_cpu_s)


def _decode_cpu_s(path: Path) -> float:
    start_s = time.process_time()
    with VideoReader(path) as reader:
        for _ in reader:
            pass
    return time.process_time() - start_s


def _measure(work: tuple[Job, str, dict[str, Any], bool]) -> tuple[Job, Result]:
    cv2.setNumThreads(1)
    job, strategy, parameters, with_decode_time = work
    if job.variant is None:
        return job, run(job.path, strategy, parameters, with_decode_time, job.rate_hz)
    with tempfile.TemporaryDirectory() as folder:
        path = make_variant(job.path, job.variant, Path(folder))
        return job, run(path, strategy, parameters)


def measure(
    jobs: Sequence[Job], strategy: str, parameters: dict[str, Any], with_decode_time: bool = False
) -> list[tuple[Job, Result]]:
    """Run all jobs, on all cores, in order."""
    work = [(job, strategy, parameters, with_decode_time) for job in jobs]
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        return pool.map(_measure, work, chunksize=1)


def table(rows: Iterable[tuple[str, Score]]) -> str:
    """Return the scores as a table of plain text."""
    lines = [
        f"{'':36s} {'segments':>8s} {'coverage':>8s} {'kf/seg':>6s} {'F1':>6s} {'hard':>9s} {'gradual':>8s}"
        f" {'false':>5s} {'reduction':>9s} {'ceiling':>7s}"
    ]
    for name, one in rows:
        lines.append(
            f"{name:36.36s} {one.segments:8d} {one.coverage:8.3f} {one.key_frames_per_segment:6.2f} {one.f1:6.3f}"
            f" {f'{one.hard_found}/{one.hard}':>9s} {f'{one.gradual_found}/{one.gradual}':>8s} {one.false:5d}"
            f" {one.reduction:9.4f} {one.ceiling:7.4f}"
        )
    return "\n".join(lines)


def truth_in(read: Sequence[int], truth: Sequence[Segment]) -> list[Segment]:
    """Return the segments of which a frame was read, in places of what was read."""
    spans = [(bisect_left(read, first), bisect_right(read, last) - 1) for first, last in truth]
    return [(first, last) for first, last in spans if first <= last]


def total(scores: Iterable[Score]) -> Score:
    return sum(scores, Score())


def print_annotated(measured: Sequence[tuple[Job, Result]]) -> None:
    scored = [(job, score(result, job.truth)) for job, result in measured]
    rows = [(f"{job.name} ({job.tier})", one) for job, one in scored]
    rows.append(("all", total(one for _, one in scored)))
    for tier in ("gold", "silver"):
        rows.append((tier, total(one for job, one in scored if job.tier.startswith(tier))))
    rows.append((f"ceiling >= {CEILING}", total(one for _, one in scored if one.ceiling >= CEILING)))
    print(table([row for row in rows if row[1].segments]))


def print_traps(measured: Sequence[tuple[Job, Result]]) -> None:
    for job, result in measured:
        print(
            f"{job.name:40.40s} {result.duration_s:6.1f} s {len(result.key_frames):3d} key frames"
            f"  cuts {list(result.boundaries)}"
        )
    minutes = sum(result.duration_s for _, result in measured) / 60
    cuts = sum(len(result.boundaries) for _, result in measured)
    print(f"{cuts} cuts in {minutes:.1f} minutes; {min(len(r.key_frames) for _, r in measured)} key frames at least")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("REELMAP_DATA_DIR"), help="folder with videos/")
    parser.add_argument("--strategy", default="shots")
    parser.add_argument("--parameters", type=json.loads, default={}, help="JSON object")
    parser.add_argument("--clips", nargs="*", help="only these annotated clips")
    parser.add_argument("--variants", nargs="*", choices=sorted(VARIANTS), help="these synthetic variants; none: all")
    parser.add_argument("--rates", nargs="*", type=float, help="as recorded with so many frames a second")
    parser.add_argument("--screens", action="store_true", help="recordings of screens, drawn now; needs no data")
    parser.add_argument("--cost", action="store_true", help="also the ratio to pure decoding")
    arguments = parser.parse_args()
    if arguments.screens:
        _print_screens(arguments)
        return
    if arguments.data is None:
        parser.error("name the folder with the clips: --data, or REELMAP_DATA_DIR")
    videos = Path(arguments.data) / "videos"
    truth = json.loads((videos / "ground_truth.json").read_text())
    annotated = [
        Job(name, videos / name, tuple((first, last) for first, last in entry["segments"]), entry["tier"])
        for name, entry in truth.items()
        if not arguments.clips or name in arguments.clips
    ]
    if arguments.variants is not None:
        _print_variants(annotated, arguments)
        return
    if arguments.rates is not None:
        _print_rates(annotated, arguments)
        return
    measured = measure(annotated, arguments.strategy, arguments.parameters, arguments.cost)
    print_annotated(measured)
    if arguments.cost:
        ratio = sum(result.decode_cpu_s for _, result in measured) / sum(result.cpu_s for _, result in measured)
        print(f"speed as a share of pure decoding: {ratio:.2f}")
    print("\nuniform, 1 a second")
    uniform = measure(annotated, "uniform", {"every_s": 1.0})
    print(table([("all", total(score(result, job.truth) for job, result in uniform))]))
    if not arguments.clips:
        print("\nclips without known cuts; most are one shot")
        others = [path for path in sorted(videos.iterdir()) if path.suffix != ".json" and path.name not in truth]
        print_traps(
            measure([Job(path.name, path, (), "") for path in others], arguments.strategy, arguments.parameters)
        )


def _measure_screen(work: tuple[int, int, str, dict[str, Any]]) -> tuple[int, int, int]:
    """Return how many states a recording has, how many of them have a key frame, and the number of key frames."""
    cv2.setNumThreads(1)
    number, seed, strategy, parameters = work
    recording = RECORDINGS[number]
    with tempfile.TemporaryDirectory() as folder:
        path, states = write_recording(recording, Path(folder), seed)
        result = run(path, strategy, parameters)
    times_s = [(index + 0.5) / recording.rate_hz for index in result.key_frames]
    covered = sum(any(start_s <= time_s < end_s for time_s in times_s) for start_s, end_s in states)
    return len(states), covered, len(times_s)


def _print_screens(arguments: argparse.Namespace) -> None:
    """A typed letter is no state that matters: typing is right between two numbers of key frames."""
    numbers = itertools.product(range(len(RECORDINGS)), SCREEN_SEEDS)
    work = [(number, seed, arguments.strategy, arguments.parameters) for number, seed in numbers]
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        measured = pool.map(_measure_screen, work, chunksize=1)
    print(f"{'':36s} {'states':>6s} {'covered':>7s} {'key frames':>10s} {'right':>8s}")
    for number, recording in enumerate(RECORDINGS):
        rows = measured[number * len(SCREEN_SEEDS) :][: len(SCREEN_SEEDS)]
        states, covered, key_frames = (sum(column) for column in zip(*rows, strict=True))
        least, most = (len(rows) * bound for bound in recording.expected or (rows[0][0], rows[0][0]))
        print(f"{recording.name:36s} {states:6d} {covered:7d} {key_frames:10d} {f'{least}..{most}':>8s}")


def _print_rates(annotated: Sequence[Job], arguments: argparse.Namespace) -> None:
    """Only segments of which a frame is left count, and a boundary must be exact."""
    rows = []
    for rate_hz in arguments.rates:
        jobs = [replace(job, rate_hz=rate_hz) for job in annotated]
        measured = measure(jobs, arguments.strategy, arguments.parameters)
        scores = [score(result, truth_in(result.read, job.truth), 0) for job, result in measured]
        rows.append((f"{rate_hz:g} frames a second", total(scores)))
    print(table(rows))


def _print_variants(annotated: Sequence[Job], arguments: argparse.Namespace) -> None:
    names = arguments.variants or sorted(VARIANTS)
    jobs = [Job(job.name, job.path, job.truth, job.tier, VARIANTS[name]) for name in names for job in annotated]
    measured = measure(jobs, arguments.strategy, arguments.parameters)
    rows = []
    for name in names:
        scores = [score(result, job.truth) for job, result in measured if job.variant == VARIANTS[name]]
        rows.append((name, total(scores)))
    rows.append(("all variants", total(one for _, one in rows)))
    print(table(rows))


if __name__ == "__main__":
    main()
