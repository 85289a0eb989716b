"""A pause of a broadcast container stays as long as it was; a clock that was set anew leaves no gap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from services.keyframes.reading.frames import VideoReader
from services.keyframes.reading.limits import DecodeLimits

SLIDES_S = (0, 12, 40, 43, 90)
TICKS_HZ = 90_000
VIDEO = {"mpegts": "libx264", "vob": "mpeg2video", "flv": "flv", "matroska": "libx264"}


def times(path: Path, i_frames_only: bool = False) -> list[float]:
    with VideoReader(path, DecodeLimits(max_duration_s=6 * 3600), i_frames_only) as reader:
        found = [frame.time_s for frame in reader]
    return [time_s - found[0] for time_s in found]


WriteTimed = Callable[..., Path]


@pytest.fixture
def write_timed(tmp_path: Path) -> WriteTimed:
    """A function that writes pictures at given seconds, and sound throughout given stretches."""

    def write(
        name: str,
        pictures_s: Sequence[float],
        container: str = "mpegts",
        sound_s: Sequence[tuple[float, float]] = (),
        options: dict[str, str] | None = None,
        codec: str | None = None,
    ) -> Path:
        path = tmp_path / name
        events: list[tuple[float, VideoFrame | av.AudioFrame]] = []
        with av.open(str(path), "w", format=container, options=options or {}) as output:
            video = output.add_stream(codec or VIDEO[container], rate=25, options={"bf": "0", "g": "1"})
            video.width, video.height, video.pix_fmt = 160, 96, "yuv420p"
            video.codec_context.time_base = Fraction(1, 25)
            for number, at_s in enumerate(pictures_s):
                # Each fills packets of its own: of several in one, only the first has a time.
                noise = np.random.default_rng(number).integers(0, 256, (96, 160, 3), dtype=np.uint8)
                picture = VideoFrame.from_ndarray(noise, "rgb24").reformat(format="yuv420p")
                picture.time_base = video.codec_context.time_base
                picture.pts = round(25 * at_s)
                events.append((at_s, picture))
            sound = output.add_stream("libmp3lame", rate=44_100, layout="mono") if sound_s else None
            for start_s, end_s in sound_s:
                for number in range(int((end_s - start_s) * 44_100 / 1152)):
                    samples = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.float32), "fltp", "mono")
                    samples.sample_rate, samples.time_base = 44_100, Fraction(1, 44_100)
                    samples.pts = round(start_s * 44_100) + number * 1152
                    events.append((samples.pts / 44_100, samples))
            output.start_encoding()
            for _, frame in sorted(events, key=lambda event: event[0]):
                output.mux((video if isinstance(frame, VideoFrame) else sound).encode(frame))
            output.mux(video.encode(None))
        return path

    return write


def evenly(start_s: float, count: int) -> list[float]:
    return [round(start_s + index / 25, 2) for index in range(count)]


# Container, and where there is sound.
PAUSES = {
    "a transport stream": ("mpegts", ()),
    "with sound all along": ("mpegts", [(0, 91)]),
    "with sound that ends": ("mpegts", [(0, 30)]),
    "with sound that ends before the first pause": ("mpegts", [(0, 1)]),
    "with sound that comes late": ("mpegts", [(35, 50)]),
    "a program stream": ("vob", ()),
    "a program stream with sound all along": ("vob", [(0, 91)]),
    "a program stream with sound that ends before": ("vob", [(0, 1)]),
    "Flash": ("flv", [(0, 1)]),
    "Matroska": ("matroska", ()),
}


@pytest.mark.parametrize(("container", "sound_s"), PAUSES.values(), ids=PAUSES)
def test_pauses_stay_pauses(container, sound_s, write_timed) -> None:
    path = write_timed("slides", SLIDES_S, container, sound_s)

    assert times(path) == times(path, i_frames_only=True) == pytest.approx(SLIDES_S, abs=0.002)


def test_a_pause_between_reordered_frames_stays(write_video, numbered_pictures, number_of) -> None:
    ticks = [*range(30), *range(1000, 1030)]
    path = write_video(numbered_pictures(60), "a.ts", ticks=ticks, options={"bf": "3", "g": "12"})

    assert times(path) == pytest.approx([tick / 25 for tick in ticks], abs=0.001)
    assert times(path, i_frames_only=True)[-1] > 40


def test_a_broadcast_with_a_long_pause_ends_when_it_ends(write_timed) -> None:
    with VideoReader(write_timed("slides.ts", SLIDES_S)) as reader:
        assert len(list(reader)) == 5
    assert reader.end_s == pytest.approx(90.04)


@pytest.mark.parametrize("later_s", [-90, 0, 15, 500, 3600, 20 * 3600])
@pytest.mark.parametrize("sound", [False, True])
@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_two_broadcasts_in_one_file_follow_each_other(codec, later_s, sound, write_timed, tmp_path) -> None:
    def stretch(start_s: float) -> list[tuple[float, float]]:
        return [(start_s, start_s + 2)] if sound else []

    # Different lengths, so that the packets' numbers do not go on by chance.
    first = write_timed("1.ts", evenly(100, 50), sound_s=stretch(100), codec=codec)
    second = write_timed("2.ts", evenly(100 + later_s, 40), sound_s=stretch(100 + later_s), codec=codec)
    path = tmp_path / "both.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())

    assert times(path) == pytest.approx(evenly(0, 90), abs=0.001)
    assert times(path, i_frames_only=True) == pytest.approx(evenly(0, 90), abs=0.001)


@pytest.mark.parametrize("before_packet", [b"", b"\1\2\3\4"], ids=["TS", "M2TS"])
def test_a_film_that_was_joined_has_no_gap_and_keeps_its_pauses(before_packet, write_timed, tmp_path) -> None:
    first = write_timed("1.ts", [*evenly(10, 25), *evenly(30, 25)])
    second = write_timed("2.ts", [*evenly(5000, 30), *evenly(5040, 25)])
    joined = first.read_bytes() + second.read_bytes()
    path = tmp_path / "both.m2ts"
    path.write_bytes(b"".join(before_packet + joined[at : at + 188] for at in range(0, len(joined), 188)))

    assert times(path) == pytest.approx([*evenly(0, 25), *evenly(20, 25), *evenly(21, 30), *evenly(61, 25)], abs=0.001)


def test_a_jump_that_the_sound_makes_too_is_closed(write_timed) -> None:
    pictures_s = [*evenly(10, 50), *evenly(3612, 50)]

    path = write_timed("a.ts", pictures_s, sound_s=[(10, 12), (3612, 14 + 3600)])

    assert times(path) == pytest.approx(evenly(0, 100), abs=0.001)


@pytest.mark.parametrize("container", ["mpegts", "vob"])
def test_a_jump_that_the_sound_makes_too_is_closed_in_every_container(container, write_timed) -> None:
    pictures_s = [*evenly(10, 50), *evenly(62, 50)]

    path = write_timed("a", pictures_s, container, sound_s=[(10, 12), (62, 64)])

    assert times(path) == pytest.approx(evenly(0, 100), abs=0.001)


def pid(packet: bytes) -> int:
    return (packet[1] & 0x1F) << 8 | packet[2]


def with_discontinuity(data: bytes, number: int) -> bytes:
    """The stream with the flag set in the first packet of a picture, which has a field for it as it holds the clock."""
    packets = [bytearray(data[at : at + 188]) for at in range(0, len(data), 188)]
    starts = [packet for packet in packets if packet[1] & 0x40 and pid(packet) == 256]
    assert starts[number][3] & 0x20 and starts[number][4]
    starts[number][5] |= 0x80
    return b"".join(map(bytes, packets))


def test_a_step_of_an_hour_without_sound_is_a_jump_only_where_the_packets_say_so(write_timed) -> None:
    pictures_s = [*evenly(10, 25), *evenly(3611, 25)]
    path = write_timed("a.ts", pictures_s)
    assert times(path) == pytest.approx([at_s - 10 for at_s in pictures_s], abs=0.001)

    path.write_bytes(with_discontinuity(path.read_bytes(), 25))

    assert times(path) == pytest.approx(evenly(0, 50), abs=0.001)
    assert times(path, i_frames_only=True) == pytest.approx(evenly(0, 50), abs=0.001)


def test_a_flag_elsewhere_makes_no_jump_of_a_pause(write_timed) -> None:
    path = write_timed("a.ts", [*evenly(10, 25), *evenly(40, 25)])
    path.write_bytes(with_discontinuity(path.read_bytes(), 10))

    assert times(path)[25] == pytest.approx(30, abs=0.001)


def test_a_recording_that_ends_and_begins_again_has_no_gap_in_a_program_stream(write_timed, tmp_path) -> None:
    first, second = (write_timed(f"{start_s}.vob", evenly(start_s, 25), "vob") for start_s in (1, 500))
    path = tmp_path / "both.vob"

    path.write_bytes(first.read_bytes() + b"\0\0\1\xb9" + second.read_bytes())

    assert times(path) == pytest.approx(evenly(0, 50), abs=0.001)


@pytest.mark.parametrize("container", ["mpegts", "vob"])
def test_a_clock_of_33_bits_that_turns_over_goes_on(container, write_timed) -> None:
    end_s = 2**33 / TICKS_HZ
    start_s = round(end_s - 1)

    path = write_timed("a", evenly(start_s, 50), container, options={"muxdelay": "0"})

    assert times(path) == pytest.approx(evenly(0, 50), abs=0.001)


def test_another_programs_sound_decides_nothing(write_timed) -> None:
    path = write_timed("a.ts", SLIDES_S, sound_s=[(5000, 5001)])

    assert times(path) == pytest.approx(SLIDES_S, abs=0.002)
