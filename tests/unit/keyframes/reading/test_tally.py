"""A video that is mostly damaged is no success; one that is damaged in spots is."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from services.keyframes.reading.frames import VideoReader
from shared.errors import ErrorKind, PermanentError


def spoilt(share: float, from_byte: int = 12) -> Callable[[bytes], bytes]:
    """What puts noise into a share of the packets, behind their first bytes."""
    chance = random.Random(1)

    def change(data: bytes) -> bytes:
        if chance.random() >= share or len(data) <= from_byte:
            return data
        return data[:from_byte] + chance.randbytes(len(data) - from_byte)

    return change


@pytest.fixture
def film(write_video, texture_of) -> Callable[[str], Path]:
    def write(codec: str) -> Path:
        options = {"g": "50", "deadline": "realtime", "cpu-used": "8"} if "vpx" in codec else {"g": "50"}
        # Every picture is another one, so that no packet is too small to be spoilt.
        return write_video(
            (texture_of(index) for index in range(150)),
            "film.mp4",
            codec=codec,
            options={**options, "x265-params": "log-level=error"},
        )

    return write


@pytest.mark.parametrize("codec", ["mpeg4", "libx264", "libx265", "libvpx-vp9", "mpeg2video"])
def test_noise_that_decodes_to_a_few_pictures_is_refused_with_the_numbers(codec, film, write_tracks) -> None:
    path = write_tracks("a.mkv", (film(codec), 150, spoilt(0.9)))

    with pytest.raises(PermanentError) as caught, VideoReader(path) as reader:
        list(reader)

    assert caught.value.kind is ErrorKind.DAMAGED
    assert "not one frame" in caught.value.message or any(character.isdigit() for character in caught.value.message)


@pytest.mark.parametrize("codec", ["mpeg4", "libx264", "libx265", "libvpx-vp9", "mpeg2video"])
def test_a_video_damaged_in_spots_is_read(codec, film, write_tracks) -> None:
    path = write_tracks("a.mkv", (film(codec), 150, spoilt(0.02, from_byte=40)))

    with VideoReader(path) as reader:
        assert len(list(reader)) > 50
    with VideoReader(path, i_frames_only=True) as reader:
        assert len(list(reader)) >= 1


def test_the_sentence_has_the_numbers(film, write_tracks) -> None:
    path = write_tracks("a.mkv", (film("mpeg4"), 150, spoilt(0.9, from_byte=30)))

    with pytest.raises(PermanentError, match=r"\d+ of its \d+ frames are damaged"), VideoReader(path) as reader:
        list(reader)


def test_a_recording_that_begins_in_the_middle_of_a_group_is_read(film, tmp_path) -> None:
    path = tmp_path / "late.mkv"
    with av.open(str(film("libvpx-vp9"))) as source, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.size and 1 <= number < 80:
                packet.stream = stream
                output.mux(packet)

    with VideoReader(path) as reader:
        assert len(list(reader)) == 30
        assert reader.damaged_packets >= 40


def test_a_cut_by_an_edit_list_leaves_out_what_comes_before_and_is_whole(write_video, texture_of, tmp_path) -> None:
    """Cutters that copy keep the group before the cut, and a list that says where to begin."""
    pictures = [texture_of(index) for index in range(50)]
    film = write_video(pictures, "film.mp4", options={"g": "50", "sc_threshold": "0", "bf": "0"})
    path = tmp_path / "cut.mp4"
    data = bytearray(film.read_bytes())
    media_hz, movie_hz = (int.from_bytes(data[at + 16 : at + 20], "big") for at in map(data.find, (b"mdhd", b"mvhd")))
    edit = data.find(b"elst") + 12  # behind version, flags and count
    struct.pack_into(">Ii", data, edit, round(0.12 * movie_hz), round(1.88 * media_hz))
    path.write_bytes(data)

    with VideoReader(path) as reader:
        assert len(list(reader)) == 3
