"""What is encrypted is refused for that reason, in every container, and what is not is read."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from services.keyframes.extraction import extract
from services.keyframes.reading.encryption import ASF_ENCRYPTION
from services.keyframes.reading.frames import VideoReader
from shared.errors import ErrorKind, PermanentError

VIDEO_PID = 256


def refusal(path: Path) -> PermanentError:
    with pytest.raises(PermanentError) as caught, VideoReader(path) as reader:
        list(reader)
    return caught.value


def count(path: Path) -> int:
    with VideoReader(path) as reader:
        return len(list(reader))


@pytest.fixture
def encrypted_mp4(write_video, numbered_pictures) -> Path:
    return write_video(
        numbered_pictures(40),
        "encrypted.mp4",
        container_options={
            "encryption_scheme": "cenc-aes-ctr",
            "encryption_key": f"{7:032x}",
            "encryption_kid": f"{8:032x}",
        },
    )


SCHEMES: dict[str, dict[bytes, bytes]] = {
    "Common Encryption": {},
    "its pattern scheme": {b"cenc": b"cbcs"},
    "PIFF, whose boxes FFmpeg does not know": {b"cenc": b"piff", b"senc": b"uuid", b"saiz": b"free", b"saio": b"free"},
    "FairPlay": {b"encv": b"drmi", b"senc": b"free", b"saiz": b"free", b"saio": b"free"},
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("strategy", ["uniform", "i_frames"])
def test_an_encrypted_mp4_is_refused_for_that_reason(scheme, strategy, encrypted_mp4, tmp_path) -> None:
    data = encrypted_mp4.read_bytes()
    for old, new in SCHEMES[scheme].items():
        assert old in data
        data = data.replace(old, new)
    encrypted_mp4.write_bytes(data)

    with pytest.raises(PermanentError, match=r"encrypted.*Submit a copy") as caught:
        extract(encrypted_mp4, tmp_path / "out", strategy)

    assert caught.value.kind is ErrorKind.DRM_PROTECTED


def test_pictures_that_only_name_encryption_are_not_encrypted(write_video, numbered_pictures) -> None:
    path = write_video(numbered_pictures(5), options={"x264-params": "bframes=0"})
    path.write_bytes(path.read_bytes() + struct.pack(">I4s", 24, b"free") + b"stsd....encvtrak")

    assert count(path) == 5


def number(value: int) -> bytes:
    """A size of EBML, in eight bytes."""
    return (1 << 56 | value).to_bytes(8, "big")


def element(name: str, content: bytes) -> bytes:
    return bytes.fromhex(name) + number(len(content)) + content


def with_more(data: bytes, names: list[str], extra: bytes) -> bytes:
    """The first element of a name, or of a name within another's, with more content at its end."""
    name = bytes.fromhex(names[0])
    start = (data.rindex(name) if len(name) == 4 else data.index(name)) + len(name)  # the index names long ones, too
    length = 9 - data[start].bit_length()
    end = start + length + (int.from_bytes(data[start : start + length], "big") & ((1 << 7 * length) - 1))
    content = data[start + length : end]
    content = with_more(content, names[1:], extra) if names[1:] else content + extra
    return data[:start] + number(len(content)) + content + data[end:]


def test_an_encrypted_webm_is_refused_for_that_reason(write_video, numbered_pictures) -> None:
    path = write_video(numbered_pictures(20), "a.webm", codec="libvpx", container_options={"live": "1"})
    clear = path.read_bytes()
    encryption = element("5035", element("47E1", b"\5") + element("47E2", bytes(16)))  # AES, the key's name
    encodings = element("6D80", element("6240", element("5033", b"\1") + encryption))

    path.write_bytes(with_more(clear, ["1654AE6B", "AE"], b""))
    assert count(path) == 20
    path.write_bytes(with_more(clear, ["1654AE6B", "AE"], encodings))
    error = refusal(path)

    assert error.kind is ErrorKind.DRM_PROTECTED
    assert "WebM" in error.message


def each_packet(data: bytes, change: Callable[[bytearray], object]) -> bytes:
    packets = [bytearray(data[at : at + 188]) for at in range(0, len(data), 188)]
    for packet in packets:
        change(packet)
    return b"".join(map(bytes, packets))


def pid_of(packet: bytearray) -> int:
    return (packet[1] & 0x1F) << 8 | packet[2]


def scramble(packet: bytearray) -> None:
    if pid_of(packet) == VIDEO_PID:
        packet[3] |= 0x80
        payload = 4 + (1 + packet[4] if packet[3] & 0x20 else 0)
        packet[payload:] = random.Random(bytes(packet)).randbytes(188 - payload)


def crc(data: bytes) -> bytes:
    """CRC-32 of MPEG-2 tables."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C11DB7 if value >> 31 else value << 1) & 0xFFFFFFFF
    return value.to_bytes(4, "big")


def name_sample_aes(packet: bytearray) -> None:
    if packet[5] == 2 and packet[1] & 0x40 and pid_of(packet) == 4096:
        end = 5 + 3 + ((packet[6] & 0x0F) << 8 | packet[7]) - 4
        entry = packet.index(bytes([0x1B, 0xE0 | VIDEO_PID >> 8, VIDEO_PID & 0xFF]), 5, end)
        packet[entry] = 0xDB
        packet[end : end + 4] = crc(bytes(packet[5:end]))


@pytest.mark.parametrize(
    ("change", "said"), [(scramble, "scrambled broadcast"), (name_sample_aes, "SAMPLE-AES")], ids=["DVB", "HLS"]
)
@pytest.mark.parametrize("before_packet", [b"", b"\1\2\3\4"], ids=["TS", "M2TS"])
def test_an_encrypted_transport_stream_is_refused_for_that_reason(
    change, said, before_packet, write_video, numbered_pictures
) -> None:
    path = write_video(numbered_pictures(40), "a.ts", options={"g": "12"})
    clear = path.read_bytes()

    def with_prefix(data: bytes) -> bytes:
        return b"".join(before_packet + data[at : at + 188] for at in range(0, len(data), 188))

    path.write_bytes(with_prefix(clear))
    assert count(path) == 40
    path.write_bytes(with_prefix(each_packet(clear, change)))
    error = refusal(path)

    assert error.kind is ErrorKind.DRM_PROTECTED
    assert said in error.message


def test_a_clear_video_beside_a_scrambled_one_is_read(write_video, numbered_pictures, write_tracks) -> None:
    film = write_video(numbered_pictures(40), "film.mp4", options={"g": "12"})
    path = write_tracks("a.ts", film, film)
    path.write_bytes(each_packet(path.read_bytes(), scramble))

    assert count(path) == 40


def test_a_protected_dvd_is_refused_for_that_reason(write_video, texture_of) -> None:
    path = write_video((texture_of(number) for number in range(40)), "a.vob", container="vob", codec="mpeg2video")
    assert count(path) == 40
    flags = re.compile(rb"(\x00\x00\x01\xe0..)([\x80-\xbf])", re.DOTALL)
    path.write_bytes(flags.sub(lambda found: found[1] + bytes([found[2][0] | 0x10]), path.read_bytes()))

    error = refusal(path)

    assert error.kind is ErrorKind.DRM_PROTECTED
    assert "DVD" in error.message


@pytest.mark.parametrize("guid", ASF_ENCRYPTION, ids=["encryption", "extended"])
def test_a_protected_windows_media_file_is_refused_for_that_reason(guid, write_video, numbered_pictures) -> None:
    path = write_video(numbered_pictures(20), "a.wmv", codec="wmv2")
    assert count(path) == 20
    data = path.read_bytes()
    extra = guid + struct.pack("<Q", 40) + bytes(16)
    header_bytes, objects = struct.unpack("<QI", data[16:28])
    path.write_bytes(
        data[:16] + struct.pack("<QI", header_bytes + len(extra), objects + 1) + data[28:30] + extra + data[30:]
    )

    error = refusal(path)

    assert error.kind is ErrorKind.DRM_PROTECTED
    assert "Windows Media" in error.message


@pytest.mark.parametrize("name", ["a.ts", "a.mp4"])
def test_tables_that_were_changed_on_their_way_end_as_an_outcome(name, write_video, numbered_pictures) -> None:
    path = write_video(numbered_pictures(5), name)
    whole = path.read_bytes()
    at = 0 if name == "a.ts" else whole.index(b"moov")
    for seed in range(60):
        chance, data = random.Random(seed), bytearray(whole)
        for _ in range(6):
            data[at + chance.randrange(min(600, len(data) - at))] = chance.choice([0, 1, 0x3F, 0x7F, 0xFF])
        path.write_bytes(data)
        try:
            count(path)
        except PermanentError as error:
            assert error.kind is not ErrorKind.INTERNAL
