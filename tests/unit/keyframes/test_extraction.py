"""One video in, JPEG key frames and a description out."""

from __future__ import annotations

import errno
import json
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from services.keyframes.extraction import extract, load_strategy, make_parameters, strategy_names
from services.keyframes.reading.limits import DecodeLimits
from shared.errors import ErrorKind, PermanentError, TransientError


def load_rgb(file: Path) -> np.ndarray:
    return cv2.imread(str(file), cv2.IMREAD_COLOR_RGB)


def test_the_written_picture_is_the_frame_of_its_index(write_video, numbered_pictures, number_of, tmp_path) -> None:
    extraction = extract(write_video(numbered_pictures(60)), tmp_path / "out", "uniform", {"every_s": 0.4})

    assert [key_frame.frame_index for key_frame in extraction.key_frames] == [0, 10, 20, 30, 40, 50]
    assert [number_of(load_rgb(key_frame.file)) for key_frame in extraction.key_frames] == [0, 10, 20, 30, 40, 50]
    assert [number_of(load_rgb(key_frame.small_file)) for key_frame in extraction.key_frames] == [0, 10, 20, 30, 40, 50]


def test_the_description_counts_what_was_read(write_video, numbered_pictures, tmp_path) -> None:
    extraction = extract(write_video(numbered_pictures(60)), tmp_path / "out", "uniform", {"every_s": 0.4})

    assert (extraction.frames, extraction.duration_s, extraction.damaged_packets) == (60, 2.4, 0)
    assert extraction.reduction == pytest.approx(0.9)
    assert (extraction.facts.codec, extraction.facts.width_px, extraction.facts.height_px) == ("h264", 160, 96)


@pytest.mark.parametrize(
    ("size", "pixel_aspect", "rotation_deg", "written", "small"),
    [
        ((1280, 720), None, None, (960, 540), (320, 180)),
        ((720, 1280), None, None, (540, 960), (180, 320)),
        ((160, 96), None, None, (160, 96), (160, 96)),
        ((720, 576), Fraction(16, 15), 90, (576, 768), (240, 320)),
    ],
)
def test_pictures_are_upright_square_pixelled_and_of_bounded_size(
    size, pixel_aspect, rotation_deg, written, small, write_video, corner_picture, tmp_path
) -> None:
    picture = cv2.resize(corner_picture, size, interpolation=cv2.INTER_NEAREST)
    path = write_video([picture] * 2, pixel_aspect=pixel_aspect, rotation_deg=rotation_deg)

    (key_frame,) = extract(path, tmp_path / "out", "uniform").key_frames

    assert (key_frame.width_px, key_frame.height_px) == written
    assert load_rgb(key_frame.file).shape == (*written[::-1], 3)
    assert load_rgb(key_frame.small_file).shape == (*small[::-1], 3)


@pytest.mark.parametrize(
    ("size", "picture_px", "written", "seen"),
    [
        ((1280, 720), 960, (960, 540), None),
        ((1280, 720), 1920, (1280, 720), (960, 540)),
        ((1280, 720), None, (1280, 720), (960, 540)),
        ((1280, 720), 640, (640, 360), (960, 540)),
        ((640, 360), 320, (320, 180), (640, 360)),
        ((640, 360), None, (640, 360), None),
        ((640, 360), 1920, (640, 360), None),
    ],
)
def test_models_see_the_same_whatever_size_people_keep(
    size, picture_px, written, seen, write_video, texture_of, tmp_path
) -> None:
    path = write_video([texture_of(1, *size)] * 2)
    (usual,) = extract(path, tmp_path / "usual", "uniform").key_frames

    (key_frame,) = extract(path, tmp_path / "out", "uniform", picture_px=picture_px).key_frames

    assert load_rgb(key_frame.file).shape == (*written[::-1], 3)
    assert (key_frame.width_px, key_frame.height_px) == written
    assert (key_frame.analysis_file is None) == (seen is None)
    if key_frame.analysis_file is not None:
        assert load_rgb(key_frame.analysis_file).shape == (*seen[::-1], 3)
    assert (key_frame.analysis_file or key_frame.file).read_bytes() == usual.file.read_bytes()
    assert key_frame.small_file.read_bytes() == usual.small_file.read_bytes()
    assert extract(path, tmp_path / "out", "uniform").frames == 2


def test_red_stays_red(write_video, corner_picture, tmp_path) -> None:
    (key_frame,) = extract(write_video([corner_picture] * 2), tmp_path / "out", "uniform").key_frames

    for file in (key_frame.file, key_frame.small_file):
        red, green, blue = load_rgb(file)[20, 40]
        assert red > 220
        assert max(green, blue) < 40


def test_the_description_is_plain_data(three_shots, tmp_path) -> None:
    extraction = extract(three_shots, tmp_path / "out", "uniform")

    data = json.loads(json.dumps(extraction.to_json()))

    assert data["reduction"] == extraction.reduction
    assert set(data["key_frames"][0]) >= {"frame_index", "time_s", "shot_index", "file"}
    assert set(data["shots"][0]) == {"start_frame", "end_frame", "start_s", "end_s"}


def test_a_video_whose_i_frames_cannot_be_read_still_has_a_key_frame(write_video, texture_of, tmp_path) -> None:
    path = write_video(
        (texture_of(1, width=400)[:, index : index + 160] for index in range(50)),
        "a.avi",
        codec="mpeg4",
        options={"g": "50"},
    )
    with av.open(str(path)) as container:
        only_i_frame = next(container.demux(video=0))
    content = bytearray(path.read_bytes())
    content[only_i_frame.pos + 8 : only_i_frame.pos + only_i_frame.size] = bytes(only_i_frame.size - 8)
    path.write_bytes(content)

    extraction = extract(path, tmp_path / "out", "i_frames")

    assert len(extraction.key_frames) >= 1
    assert extraction.damaged_packets >= 1


def test_an_unknown_strategy_and_parameter_are_named(three_shots, tmp_path) -> None:
    with pytest.raises(PermanentError, match=r"'best'.*uniform") as unknown_strategy:
        extract(three_shots, tmp_path, "best")
    with pytest.raises(PermanentError, match=r"'every'.*every_s") as unknown_parameter:
        extract(three_shots, tmp_path, "uniform", {"every": 2})

    assert unknown_strategy.value.kind is unknown_parameter.value.kind is ErrorKind.BAD_PARAMETERS


@pytest.mark.parametrize("value", ["1", True, None, float("nan"), float("inf"), [1], 0, -1])
def test_a_parameter_of_a_wrong_type_or_out_of_range_is_named(value) -> None:
    with pytest.raises(PermanentError, match=r"uniform.*every_s") as caught:
        make_parameters(load_strategy("uniform"), {"every_s": value})

    assert caught.value.kind is ErrorKind.BAD_PARAMETERS


def test_a_whole_number_is_good_enough_for_seconds() -> None:
    assert make_parameters(load_strategy("uniform"), {"every_s": 2}).every_s == 2


def test_the_strategies_are_found_by_their_files() -> None:
    assert {"i_frames", "shots", "uniform"} <= set(strategy_names())


def test_limits_reach_the_reader(three_shots, tmp_path) -> None:
    with pytest.raises(PermanentError) as caught:
        extract(three_shots, tmp_path, "uniform", limits=DecodeLimits(max_duration_s=1))

    assert caught.value.kind is ErrorKind.TOO_LONG


def test_a_full_disk_may_be_better_later(three_shots, tmp_path, monkeypatch) -> None:
    def no_space(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", no_space)

    with pytest.raises(TransientError) as caught:
        extract(three_shots, tmp_path, "uniform")

    assert caught.value.kind is ErrorKind.DISK_FULL
