"""What every key-frame strategy promises, whichever file it lives in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, fields, replace
from fractions import Fraction
from inspect import signature
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from services.keyframes.choosing.selection import Outline, Pick
from services.keyframes.extraction import Extraction, extract, load_strategy, make_parameters, strategy_names
from services.keyframes.reading.frames import Frame, VideoReader
from shared.errors import ErrorKind, PermanentError

STRATEGIES = strategy_names()


def texture(seed: int, width: int = 160, height: int = 96) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC))


def drift(seed: int, frames: int) -> Iterator[np.ndarray]:
    wide = texture(seed, width=160 + frames)
    return (wide[:, index : index + 160] for index in range(frames))


def shots(lengths: list[int]) -> Iterator[np.ndarray]:
    return (picture for seed, length in enumerate(lengths) for picture in drift(seed, length))


def still(value: int, frames: int, width: int = 160, height: int = 96) -> Iterator[np.ndarray]:
    return (np.full((height, width, 3), value, np.uint8) for _ in range(frames))


def noise(frames: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng(0)
    return (random.integers(0, 256, (96, 160, 3), dtype=np.uint8) for _ in range(frames))


# name: (file name, pictures, milliseconds of each frame where they are uneven)
VIDEOS = {
    "three shots": ("a.mp4", lambda: shots([30, 40, 30]), None),
    "one frame": ("a.mp4", lambda: still(120, 1), None),
    "two frames": ("a.mp4", lambda: shots([1, 1]), None),
    "all black": ("a.mp4", lambda: still(0, 60), None),
    "all white": ("a.mkv", lambda: still(255, 60), None),
    "tiny": ("a.mp4", lambda: still(90, 20, 16, 16), None),
    "thin": ("a.mp4", lambda: still(90, 20, 320, 2), None),
    "every frame its own shot": ("a.mp4", lambda: shots([1] * 40), None),
    "noise": ("a.mp4", lambda: noise(40), None),
    "uneven times": ("a.mkv", lambda: shots([10, 10]), [*range(0, 400, 40), *range(5000, 6000, 100)]),
    "no timestamps": ("a.h264", lambda: shots([20, 20]), None),
}


def write(path: Path, pictures: Iterator[np.ndarray], times_ms: list[int] | None) -> None:
    with av.open(str(path), "w") as output:
        stream = None
        for index, picture in enumerate(pictures):
            if stream is None:
                stream = output.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
                stream.height, stream.width = picture.shape[:2]
                stream.codec_context.time_base = Fraction(1, 1000)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = times_ms[index] if times_ms else index * 40, Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> dict[str, Path]:
    paths = {}
    for name, (file_name, pictures, times_ms) in VIDEOS.items():
        paths[name] = tmp_path_factory.mktemp("video") / file_name
        write(paths[name], pictures(), times_ms)
    return paths


@pytest.fixture(params=STRATEGIES)
def strategy(request) -> str:
    return request.param


@pytest.fixture(
    scope="module", params=[(strategy, video) for strategy in STRATEGIES for video in VIDEOS], ids=" | ".join
)
def extracted(request, videos, tmp_path_factory) -> tuple[Path, str, Extraction]:
    """A video, a strategy, and what it made of the video."""
    strategy, video = request.param
    return videos[video], strategy, extract(videos[video], tmp_path_factory.mktemp("out"), strategy)


def test_every_video_has_a_key_frame_written_as_two_pictures(extracted) -> None:
    _, _, extraction = extracted

    assert extraction.key_frames
    for key_frame in extraction.key_frames:
        height, width = cv2.imread(str(key_frame.file)).shape[:2]
        assert (width, height) == (key_frame.width_px, key_frame.height_px)
        assert max(cv2.imread(str(key_frame.small_file)).shape) <= 320


def test_key_frames_are_frames_of_the_video_in_order(extracted) -> None:
    path, _, extraction = extracted
    with VideoReader(path) as reader:
        frames = {frame.index: (frame.time_s, frame.pts) for frame in reader}

    chosen = [key_frame.frame_index for key_frame in extraction.key_frames]

    assert chosen == sorted(set(chosen))
    assert [(key_frame.time_s, key_frame.pts) for key_frame in extraction.key_frames] == [frames[i] for i in chosen]
    assert (extraction.frames, extraction.duration_s) == (len(frames), reader.end_s)


def test_shots_partition_the_video_and_hold_their_key_frames(extracted) -> None:
    _, _, extraction = extracted
    shots = extraction.shots

    assert (shots[0].start_frame, shots[0].start_s) == (0, 0.0)
    assert (shots[-1].end_frame, shots[-1].end_s) == (extraction.frames, extraction.duration_s)
    for shot, following in pairwise(shots):
        assert (shot.end_frame, shot.end_s) == (following.start_frame, following.start_s)
    for shot in shots:
        assert shot.start_frame < shot.end_frame
        assert shot.start_s < shot.end_s
    for key_frame in extraction.key_frames:
        shot = shots[key_frame.shot_index]
        assert shot.start_frame <= key_frame.frame_index < shot.end_frame


def test_repeats_are_later_times_of_the_video(extracted) -> None:
    _, _, extraction = extracted

    for key_frame in extraction.key_frames:
        for start_s, end_s in key_frame.repeats:
            assert 0 <= start_s < end_s <= extraction.duration_s
            assert end_s > key_frame.time_s


def test_the_same_video_gives_the_same_key_frames(extracted, tmp_path) -> None:
    path, strategy, extraction = extracted

    again = extract(path, tmp_path, strategy)

    assert again.shots == extraction.shots
    assert [replace(key_frame, file=None, small_file=None) for key_frame in again.key_frames] == [
        replace(key_frame, file=None, small_file=None) for key_frame in extraction.key_frames
    ]
    for first, second in zip(extraction.key_frames, again.key_frames, strict=True):
        assert first.file.read_bytes() == second.file.read_bytes()


def run(strategy: str, frames: Iterator[Frame]) -> tuple[list[Pick], Outline]:
    module = load_strategy(strategy)
    selection = module.select(frames, make_parameters(module, {}))
    picks = []
    while True:
        try:
            picks.append(next(selection))
        except StopIteration as end:
            return picks, end.value


def test_a_video_of_nothing_but_damaged_frames_has_a_key_frame(strategy, videos) -> None:
    with VideoReader(videos["three shots"]) as reader:
        picks, _ = run(strategy, (replace(frame, is_corrupt=True) for frame in reader))

    assert picks


def test_a_damaged_frame_is_not_chosen_where_there_are_others(strategy, videos) -> None:
    with VideoReader(videos["three shots"]) as reader:
        every_second = (replace(frame, is_corrupt=frame.index % 2 == 0, is_i_frame=True) for frame in reader)
        picks, _ = run(strategy, every_second)

    assert all(not pick.frame.is_corrupt for pick in picks)


def test_a_strategy_describes_itself(strategy) -> None:
    module = load_strategy(strategy)

    assert module.__doc__
    assert module.TITLE.strip()
    assert module.VERSION >= 1
    assert isinstance(module.I_FRAMES_ONLY, bool)
    assert ("scores" in signature(module.select).parameters) == module.HAS_SCORES


def test_parameters_have_defaults_and_cannot_change(strategy) -> None:
    parameters = load_strategy(strategy).Parameters()

    for field in fields(parameters):
        assert isinstance(field.default, bool | int | float | str)
        with pytest.raises(FrozenInstanceError):
            setattr(parameters, field.name, field.default)


def test_parameters_out_of_range_are_refused_by_name(strategy) -> None:
    module = load_strategy(strategy)
    for field in fields(module.Parameters):
        bad = ["text", None, float("nan"), float("inf"), *(type(field.default)(sign * 1e12) for sign in (1, -1))]
        for value in bad if not isinstance(field.default, str | bool) else [0.5]:
            with pytest.raises(PermanentError, match=field.name) as caught:
                make_parameters(module, {field.name: value})
            assert caught.value.kind is ErrorKind.BAD_PARAMETERS


def test_parameters_can_be_read_without_the_decoding_libraries(strategy) -> None:
    """The API checks parameters in an image that has neither PyAV nor OpenCV."""
    script = (
        "import sys; sys.modules['av'] = sys.modules['cv2'] = None; "
        f"from services.keyframes.strategies.{strategy} import Parameters; Parameters()"
    )
    root = Path(load_strategy(strategy).__file__).parents[3]

    finished = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)

    assert finished.returncode == 0, finished.stderr
