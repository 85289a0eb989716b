"""Each video has a process of its own, and whatever becomes of that is the outcome of one video."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.keyframes.cell import decoder as decoder_module
from services.keyframes.cell.decoder import Decoder
from services.keyframes.extraction import extract, strategy_names
from services.keyframes.reading.limits import DecodeLimits
from shared.errors import ErrorKind, PermanentError


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    with Decoder() as decoder:
        yield decoder


@pytest.fixture
def often_checked(monkeypatch) -> None:
    monkeypatch.setattr(decoder_module, "CHECK_EVERY_S", 0.02)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool], timeout_s: float = 10) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_the_process_gives_what_the_function_gives(decoder, three_shots, tmp_path) -> None:
    arguments = (three_shots, tmp_path / "out", "uniform", {"every_s": 0.5}, DecodeLimits(max_frames=90))

    assert decoder.extract(*arguments) == extract(*arguments)


def test_one_helper_gives_each_video_a_process_of_its_own(decoder, three_shots, tmp_path, often_checked) -> None:
    helpers, readers = set(), set()
    for number in range(3):
        decoder.extract(three_shots, tmp_path / str(number), check=lambda: readers.add(decoder.reader_pid))
        helpers.add(decoder.helper_pid)
    readers -= {None}  # while the helper starts

    assert len(helpers) == 1
    assert helpers != {None}
    assert len(readers) == 3
    assert not readers & helpers
    assert not any(is_alive(pid) for pid in readers)
    assert decoder.reader_pid is None


def test_an_error_arrives_with_its_kind_and_sentence_and_the_helper_stays(decoder, three_shots, tmp_path) -> None:
    page = tmp_path / "page.mp4"
    page.write_text("<html>Please sign in</html>" * 50)
    decoder.extract(three_shots, tmp_path / "1", "i_frames")
    helper = decoder.helper_pid

    with pytest.raises(PermanentError, match="not a video") as caught:
        decoder.extract(page, tmp_path / "2")

    assert caught.value.kind is ErrorKind.NOT_A_VIDEO
    assert decoder.extract(three_shots, tmp_path / "3", "i_frames").frames == 90
    assert decoder.helper_pid == helper


def test_the_process_that_reads_holds_no_line_to_the_client(
    decoder, three_shots, endless_video, tmp_path, often_checked
) -> None:
    decoder.extract(three_shots, tmp_path / "1", "i_frames")
    helper = decoder._helper
    stdin, stdout, stderr = (
        os.readlink(f"/proc/self/fd/{pipe.fileno()}") for pipe in (helper.stdin, helper.stdout, helper.stderr)
    )
    held = set()

    def look() -> None:
        if decoder.reader_pid:
            with suppress(FileNotFoundError):  # closed while we look
                now = {os.readlink(link) for link in Path(f"/proc/{decoder.reader_pid}/fd").iterdir()}
                if stderr in now:  # neither ended nor just ending
                    held.clear()
                    held.update(now)

    with pytest.raises(PermanentError):
        decoder.extract(endless_video, tmp_path / "2", limits=DecodeLimits(max_wall_s=1), check=look)
    assert held, "nobody looked while it read"
    assert {stdin, stdout} & held == set()


def test_walls_that_the_machine_lacks_are_said_once(decoder, three_shots, tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(decoder_module.sandbox, "missing_walls", lambda: ["This kernel has no Landlock."])

    decoder.extract(three_shots, tmp_path / "1", "i_frames")
    decoder.extract(three_shots, tmp_path / "2", "i_frames")

    assert [record.message for record in caplog.records] == ["This kernel has no Landlock."]


@pytest.mark.parametrize("strategy", strategy_names())
@pytest.mark.parametrize("codec", ["png", "qtrle", "prores", "libx265"])
def test_every_strategy_does_with_the_rights_that_are_left(
    strategy, codec, decoder, write_video, numbered_pictures, tmp_path
) -> None:
    pixel_format = {"png": "rgb24", "qtrle": "rgb24", "prores": "yuv422p10le", "libx265": "yuv444p"}[codec]
    path = write_video(numbered_pictures(5), "odd.mov", codec=codec, pixel_format=pixel_format)

    assert decoder.extract(path, tmp_path / "out", strategy).frames == 5


def test_bad_parameters_are_named_across_the_process(decoder, three_shots, tmp_path) -> None:
    with pytest.raises(PermanentError, match="every_s"):
        decoder.extract(three_shots, tmp_path, "uniform", {"every_s": -1})


@pytest.mark.parametrize("killed", ["reader_pid", "helper_pid"])
def test_a_crash_is_one_failed_video_and_names_the_signal(
    decoder, three_shots, endless_video, tmp_path, often_checked, caplog, killed
) -> None:
    def kill() -> None:
        if decoder.reader_pid:
            os.kill(getattr(decoder, killed), signal.SIGSEGV)

    with pytest.raises(PermanentError, match="SIGSEGV") as caught:
        decoder.extract(endless_video, tmp_path / "1", check=kill)

    assert caught.value.kind is ErrorKind.DECODER_CRASHED
    assert "SIGSEGV" in caplog.text
    assert decoder.extract(three_shots, tmp_path / "2", "uniform").frames == 90


def test_a_helper_that_died_between_two_videos_is_replaced(decoder, three_shots, tmp_path) -> None:
    decoder.extract(three_shots, tmp_path / "1", "i_frames")
    os.kill(decoder.helper_pid, signal.SIGKILL)
    os.waitid(os.P_PID, decoder.helper_pid, os.WEXITED | os.WNOWAIT)

    assert decoder.extract(three_shots, tmp_path / "2", "i_frames").frames == 90


def test_a_caller_who_stops_waiting_ends_both_processes_at_once(
    decoder, three_shots, endless_video, tmp_path, often_checked
) -> None:
    seen = []

    def stop() -> None:
        seen.extend([decoder.helper_pid, decoder.reader_pid])
        raise TimeoutError("took too long")

    decoder.extract(three_shots, tmp_path / "1", "i_frames")
    with pytest.raises(TimeoutError, match="took too long"):
        decoder.extract(endless_video, tmp_path / "2", check=stop)

    assert len(seen) == 2
    assert not any(is_alive(pid) for pid in seen)
    assert (decoder.helper_pid, decoder.reader_pid) == (None, None)


@pytest.fixture
def endless_video(write_video, tmp_path) -> Path:
    """Two hundred pictures of 8192 x 4096 pixels in 20 MB: many seconds of work for one core."""
    path = write_video([np.zeros((4096, 8192, 3), np.uint8)], "one.h264", options={"preset": "ultrafast"})
    endless = tmp_path / "endless.h264"
    endless.write_bytes(path.read_bytes() * 200)
    return endless


def test_a_video_that_takes_for_ever_ends_after_its_seconds_of_computing(decoder, endless_video, tmp_path) -> None:
    with pytest.raises(PermanentError, match="1 seconds of computing") as caught:
        decoder.extract(endless_video, tmp_path / "out", limits=DecodeLimits(max_cpu_s=1))

    assert caught.value.kind is ErrorKind.DEADLINE
    assert decoder.helper_pid is not None


def test_a_video_that_takes_for_ever_ends_when_the_time_is_up(
    decoder, endless_video, three_shots, tmp_path, often_checked
) -> None:
    readers = set()
    decoder.extract(three_shots, tmp_path / "warm", "i_frames")

    with pytest.raises(PermanentError, match="takes longer than the") as caught:
        decoder.extract(
            endless_video,
            tmp_path / "out",
            limits=DecodeLimits(max_wall_s=0.2),
            check=lambda: readers.add(decoder.reader_pid),
        )

    assert caught.value.kind is ErrorKind.DEADLINE
    assert not any(is_alive(pid) for pid in readers if pid)


def test_a_video_that_takes_too_much_memory_says_so(decoder, write_video, tmp_path) -> None:
    black = np.zeros((2160, 3840, 3), np.uint8)
    path = write_video([black] * 8, options={"preset": "ultrafast", "refs": "16"})

    for max_mib in (40, 96):  # too little for the first frame, and for those after it
        with pytest.raises(PermanentError, match=f"more than the {max_mib} MiB of memory") as caught:
            decoder.extract(path, tmp_path / "1", limits=DecodeLimits(max_memory_bytes=max_mib * 2**20))
        assert caught.value.kind is ErrorKind.TOO_LARGE
    assert decoder.extract(path, tmp_path / "2").frames == 8


LIES = {
    "nonsense": "no JSON",
    "too little": "{}",
    "another type": '{"extraction": [1, 2]}',
    "an unknown error": '{"error": {"kind": "all_is_well", "message": "", "is_transient": false}}',
    "deeper than anyone reads": "[" * 100_000,
}


@pytest.mark.parametrize("lie", LIES)
def test_an_answer_that_makes_no_sense_is_a_crash(lie, tmp_path) -> None:
    with pytest.raises(PermanentError, match="makes no sense") as caught:
        decoder_module._read_answer(LIES[lie], tmp_path)

    assert caught.value.kind is ErrorKind.DECODER_CRASHED


def test_an_honest_answer_arrives_as_it_was_given(write_video, texture_of, tmp_path) -> None:
    path = write_video([texture_of(1, 1200, 400)] * 2)
    found = extract(path, tmp_path / "out", "uniform", picture_px=None)
    honest = replace(found, facts=replace(found.facts, notes=("A word.", "Another.")))
    assert honest.key_frames[0].analysis_file is not None

    assert decoder_module._read_answer(json.dumps({"extraction": honest.to_json()}), tmp_path / "out") == honest


def put(place: str, value: Any) -> Callable[[Any], None]:
    """What sets one value of an extraction's plain data, by its dotted name."""

    def change(data: Any) -> None:
        *way, last = place.split(".")
        for name in way:
            data = data[int(name) if name.isdigit() else name]
        data[last] = value

    return change


@pytest.mark.parametrize(
    "lie",
    [
        put("duration_s", float("nan")),
        put("shots.0.end_s", float("inf")),
        put("frames", "90"),
        put("frames", True),
        put("key_frames.0.time_s", "soon"),
        put("key_frames.0.repeats", [[1, 2, 3]]),
        put("key_frames.0.shot_index", None),
        put("facts.width_px", 1.5),
        put("facts.codec", "h264\0"),
        put("facts.container", "mp4 " * 1000 + "mp4"),
        put("facts.notes", "a sentence"),
        put("facts.notes", ["A sentence. " * 100]),
        put("facts.notes", ["All is well."] * 1000),
        put("facts.notes", ["\x1b[2J"]),
        put("facts.notes", ["\u202eecnetnes"]),
    ],
)
def test_nothing_is_believed_that_a_video_cannot_be(lie, three_shots, tmp_path) -> None:
    data = extract(three_shots, tmp_path, "i_frames").to_json()
    decoder_module._read_answer(json.dumps({"extraction": data}), tmp_path)
    lie(data)

    with pytest.raises(PermanentError, match="makes no sense"):
        decoder_module._read_answer(json.dumps({"extraction": data}), tmp_path)


def test_a_sentence_of_the_process_steers_no_terminal(tmp_path) -> None:
    error = {"kind": "damaged", "message": "Two\nlines\x1b[2J.", "is_transient": False}

    with pytest.raises(PermanentError) as caught:
        decoder_module._read_answer(json.dumps({"error": error}), tmp_path)

    assert caught.value.message == "Two lines[2J."


def test_an_answer_cannot_name_files_that_the_process_did_not_write(three_shots, tmp_path) -> None:
    out_dir = tmp_path / "out"
    honest = json.dumps({"extraction": extract(three_shots, out_dir, "i_frames").to_json()})
    assert decoder_module._read_answer(honest, out_dir).frames == 90
    picture = decoder_module._read_answer(honest, out_dir).key_frames[0].file
    elsewhere = honest.replace(str(picture), "/etc/passwd")

    with pytest.raises(PermanentError, match="makes no sense"):
        decoder_module._read_answer(elsewhere, out_dir)
    picture.unlink()
    picture.symlink_to("/etc/passwd")
    with pytest.raises(PermanentError, match="makes no sense"):
        decoder_module._read_answer(honest, out_dir)


def test_the_process_writes_what_models_see_beside_larger_pictures(decoder, write_video, texture_of, tmp_path) -> None:
    path = write_video([texture_of(1, 1280, 720)] * 2)

    extraction = decoder.extract(path, tmp_path / "out", "uniform", picture_px=None)

    (key_frame,) = extraction.key_frames
    assert (key_frame.width_px, key_frame.height_px) == (1280, 720)
    assert key_frame.analysis_file is not None and key_frame.analysis_file.is_file()
    elsewhere = json.dumps({"extraction": extraction.to_json()}).replace(str(key_frame.analysis_file), "/etc/passwd")
    with pytest.raises(PermanentError, match="makes no sense"):
        decoder_module._read_answer(elsewhere, tmp_path / "out")


def test_neither_process_outlives_its_client(write_video, texture_of, tmp_path) -> None:
    path = write_video((texture_of(index % 7, 1280, 720) for index in range(60)), options={"preset": "ultrafast"})
    script = f"""
from services.keyframes.cell import decoder as decoder_module
decoder_module.CHECK_EVERY_S = 0.01
decoder = decoder_module.Decoder()
said = False
def say():
    global said
    if decoder.reader_pid and not said:
        said = True
        print(decoder.helper_pid, decoder.reader_pid, flush=True)
while True:
    decoder.extract({str(path)!r}, {str(tmp_path / "out")!r}, "uniform", {{"every_s": 0.04}}, check=say)
"""
    client = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=Path(decoder_module.__file__).parents[3]
    )
    with client:
        helper, _ = map(int, client.stdout.readline().split())
        readers = Path(f"/proc/{helper}/task/{helper}/children")
        client.send_signal(signal.SIGSTOP)  # in the middle of a video, and there it stays
        reader = int(readers.read_text())
        client.kill()

    assert wait_until(lambda: not is_alive(helper) and not is_alive(reader))


def test_a_damaged_video_that_floods_the_log_does_not_block(decoder, write_video, texture_of, damage, tmp_path) -> None:
    drifting = (texture_of(index // 60, width=400)[:, index % 60 * 2 :][:, :160] for index in range(300))
    path = damage(write_video(drifting, options={"preset": "ultrafast"}), spots=250)

    assert decoder.extract(path, tmp_path / "out", "uniform").frames > 50
