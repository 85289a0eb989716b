"""The helper process does the work, and whatever becomes of it is the outcome of one video."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.keyframes import decoder as decoder_module
from services.keyframes.decoder import Decoder
from services.keyframes.extraction import extract
from services.keyframes.frames import DecodeLimits
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


def test_one_process_serves_many_videos(decoder, three_shots, tmp_path) -> None:
    pids = set()
    for number in range(3):
        decoder.extract(three_shots, tmp_path / str(number), "i_frames")
        pids.add(decoder.pid)

    assert len(pids) == 1


def test_a_process_is_replaced_after_its_share_of_videos(decoder, three_shots, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(decoder_module, "VIDEOS_PER_PROCESS", 2)

    decoder.extract(three_shots, tmp_path / "1", "i_frames")
    first = decoder.pid
    decoder.extract(three_shots, tmp_path / "2", "i_frames")

    assert decoder.pid is None
    assert not is_alive(first)
    assert decoder.extract(three_shots, tmp_path / "3", "i_frames").frames == 90


def test_an_error_arrives_with_its_kind_and_sentence_and_ends_the_process(decoder, three_shots, tmp_path) -> None:
    page = tmp_path / "page.mp4"
    page.write_text("<html>Please sign in</html>" * 50)
    decoder.extract(three_shots, tmp_path / "1", "i_frames")
    first = decoder.pid

    with pytest.raises(PermanentError, match="not a video") as caught:
        decoder.extract(page, tmp_path / "2")

    assert caught.value.kind is ErrorKind.NOT_A_VIDEO
    assert not is_alive(first)
    assert decoder.extract(three_shots, tmp_path / "3", "i_frames").frames == 90


def test_bad_parameters_are_named_across_the_process(decoder, three_shots, tmp_path) -> None:
    with pytest.raises(PermanentError, match="every_s"):
        decoder.extract(three_shots, tmp_path, "uniform", {"every_s": -1})


def test_a_crash_is_one_failed_video_and_names_the_signal(
    decoder, three_shots, tmp_path, often_checked, caplog
) -> None:
    with pytest.raises(PermanentError, match="SIGSEGV") as caught:
        decoder.extract(three_shots, tmp_path / "1", "uniform", check=lambda: os.kill(decoder.pid, signal.SIGSEGV))

    assert caught.value.kind is ErrorKind.DECODER_CRASHED
    assert "SIGSEGV" in caplog.text
    assert decoder.extract(three_shots, tmp_path / "2", "uniform").frames == 90


def test_a_process_that_died_between_two_videos_is_replaced(decoder, three_shots, tmp_path) -> None:
    decoder.extract(three_shots, tmp_path / "1", "i_frames")
    os.kill(decoder.pid, signal.SIGKILL)
    os.waitid(os.P_PID, decoder.pid, os.WEXITED | os.WNOWAIT)

    assert decoder.extract(three_shots, tmp_path / "2", "i_frames").frames == 90


def test_a_caller_who_stops_waiting_ends_the_process_at_once(decoder, three_shots, tmp_path, often_checked) -> None:
    seen = []

    def stop() -> None:
        seen.append(decoder.pid)
        raise TimeoutError("took too long")

    with pytest.raises(TimeoutError, match="took too long"):
        decoder.extract(three_shots, tmp_path / "1", check=stop)

    assert len(seen) == 1
    assert not is_alive(seen[0])
    assert decoder.pid is None


def test_the_process_does_not_outlive_its_client(write_video, texture_of, tmp_path) -> None:
    path = write_video((texture_of(index % 7, 1280, 720) for index in range(60)), options={"preset": "ultrafast"})
    script = f"""
from services.keyframes.decoder import Decoder
decoder = Decoder()
decoder.extract({str(path)!r}, {str(tmp_path / "warm")!r}, "i_frames")
print(decoder.pid, flush=True)
while True:
    decoder.extract({str(path)!r}, {str(tmp_path / "out")!r}, "uniform", {{"every_s": 0.04}})
"""
    client = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=Path(decoder_module.__file__).parents[2]
    )
    with client:
        pid = int(client.stdout.readline())
        time.sleep(0.2)  # in the middle of a video
        assert is_alive(pid)
        client.kill()

    assert wait_until(lambda: not is_alive(pid))


def test_a_damaged_video_that_floods_the_log_does_not_block(decoder, write_video, texture_of, damage, tmp_path) -> None:
    drifting = (texture_of(index // 60, width=400)[:, index % 60 * 2 :][:, :160] for index in range(300))
    path = damage(write_video(drifting, options={"preset": "ultrafast"}), spots=250)

    assert decoder.extract(path, tmp_path / "out", "uniform").frames > 50
