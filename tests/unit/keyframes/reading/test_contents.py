"""A file that is no video, or a piece of one, is called what it is, with what to do instead."""

from __future__ import annotations

import gzip
import io
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from services.keyframes.reading.contents import known_content
from services.keyframes.reading.frames import VideoReader
from shared.errors import ErrorKind, PermanentError
from shared.media_types import VIDEO_SUFFIXES

HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nseg-1.ts\n#EXT-X-ENDLIST\n"
DASH = (
    '<?xml version="1.0" encoding="utf-8"?>\n<!-- made by a packager -->\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011">'
)
SMOOTH = '<?xml version="1.0"?><SmoothStreamingMedia MajorVersion="2" MinorVersion="0" Duration="100">'


def picture(suffix: str) -> bytes:
    return cv2.imencode(suffix, np.full((96, 160, 3), 128, np.uint8))[1].tobytes()


def archive() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as made:
        made.writestr("a.txt", "x" * 1000)
    return data.getvalue()


def tar_archive() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as made:
        made.addfile(tarfile.TarInfo("a.txt"))
    return data.getvalue()


# what the sentence must say: the content
CONTENTS: dict[str, bytes] = {
    "playlist (HLS)": HLS.encode(),
    "playlist (M3U)": b"#EXTM3U\r\n#EXTINF:123,One\r\none.mp4\r\n",
    "playlist (MPEG-DASH)": DASH.encode(),
    "playlist (Smooth Streaming)": SMOOTH.encode("utf-16"),
    "playlist (PLS)": b"[playlist]\nFile1=http://example.org/a.mp4\n",
    "playlist (XSPF)": b'\xef\xbb\xbf<?xml version="1.0"?>\n<playlist version="1" xmlns="http://xspf.org/ns/0/">',
    "playlist (ASX)": b'<asx version="3.0"><entry><ref href="mms://example.org/a"/></entry></asx>',
    "shortcut": b"[InternetShortcut]\r\nURL=https://example.org/\r\n",
    "Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "web page": b"\n<!-- a --><!DOCTYPE html>\n<html><head><title>Sign in</title>",
    "SVG picture": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "XML document": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    "JSON document": b'{"error": "sign in"}',
    "PNG picture": picture(".png"),
    "JPEG picture": picture(".jpg"),
    "WebP picture": picture(".webp"),
    "BMP picture": picture(".bmp"),
    "TIFF": picture(".tiff"),
    "ZIP archive": archive(),
    "gzip archive": gzip.compress(b"x" * 1000),
    "tar archive": tar_archive(),
    "disk image": bytes(32_769) .replace(b"\0", b"\1", 1) + b"CD001" + bytes(4000),
    "PDF document": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + bytes(range(256)) * 8,
    "file of subtitles": b"\xef\xbb\xbf1\r\n00:00:01,000 --> 00:00:02,000\r\nHello\r\n\r\n" * 20,
    "torrent": b"d8:announce30:http://example.org/announce4:info",
    "nothing but zeros": bytes(100_000),
    "encrypted or packed": np.random.default_rng(0).bytes(100_000),
    "a text": b"The quick brown fox jumps over the lazy dog.\n" * 50,
}  # fmt: skip


def refusal(path: Path) -> PermanentError:
    with pytest.raises(PermanentError) as caught, VideoReader(path):
        pass
    return caught.value


@pytest.mark.parametrize("name", ["video.mp4", "list.m3u8", "a.ts", "nameless"])
def test_what_is_no_video_is_called_what_it_is(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    for said, content in CONTENTS.items():
        path.write_bytes(content)

        error = refusal(path)

        assert (said, error.kind) == (said, ErrorKind.NOT_A_VIDEO)
        assert said in error.message and "not a video" in error.message


def test_a_playlist_says_what_to_submit_instead(tmp_path: Path) -> None:
    path = tmp_path / "list.m3u8"
    path.write_text(HLS)

    assert "Submit the page that plays it" in refusal(path).message


@pytest.fixture
def fragments(write_video, numbered_pictures) -> tuple[bytes, bytes]:
    """The beginning of a fragmented MP4, and its first piece."""
    whole = write_video(
        numbered_pictures(20), "whole.mp4", container_options={"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    ).read_bytes()
    split = whole.index(b"moof") - 4
    return whole[:split], whole[split:]


@pytest.mark.parametrize("before", [b"", b"\0\0\0\x18stypmsdh\0\0\0\0msdhmsix"], ids=["moof", "styp"])
def test_a_piece_of_an_mp4_is_called_one(before: bytes, fragments, tmp_path: Path) -> None:
    path = tmp_path / "segment.m4s"
    path.write_bytes(before + fragments[1])

    error = refusal(path)

    assert error.kind is ErrorKind.DAMAGED
    assert "a piece of an MP4" in error.message and "beginning" in error.message


def test_the_beginning_of_a_stream_alone_is_called_that_and_both_together_are_a_video(fragments, tmp_path) -> None:
    path = tmp_path / "init.mp4"
    path.write_bytes(fragments[0])
    error = refusal(path)
    assert error.kind is ErrorKind.DAMAGED
    assert "the pieces with the frames are missing" in error.message

    path.write_bytes(fragments[0] + fragments[1])
    with VideoReader(path) as reader:
        assert len(list(reader)) == 20


def test_a_piece_of_a_webm_is_called_one(write_video, numbered_pictures, tmp_path: Path) -> None:
    whole = write_video(numbered_pictures(5), "a.webm", codec="libvpx").read_bytes()
    path = tmp_path / "piece.webm"
    path.write_bytes(whole[whole.index(b"\x1f\x43\xb6\x75") :])

    error = refusal(path)

    assert error.kind is ErrorKind.DAMAGED
    assert "a piece of a WebM" in error.message


def test_comments_without_end_are_looked_at_once(tmp_path: Path) -> None:
    path = tmp_path / "hostile"
    for hostile in (
        b"<!---->" * 9000 + b"x",
        b"<?xml >" * 9000,
        b" " * 64_000,
        b"1" + b"\n" * 60_000,
        b"<!--" * 16_000,
    ):
        path.write_bytes(hostile)
        with path.open("rb", buffering=0) as file:
            begin = time.perf_counter()
            known_content(file)
            assert time.perf_counter() - begin < 1


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("raw.y4m", {"codec": "wrapped_avframe", "container": "yuv4mpegpipe"}),
        ("camera.mjpeg", {"codec": "mjpeg", "container": "mjpeg", "pixel_format": "yuvj420p"}),
        ("camera.m2t", {"container": "mpegts"}),
        ("phone.3g2", {"container": "3g2"}),
        ("GX010042.LRV", {"container": "mp4"}),
        ("track.cmfv", {"container": "mp4"}),
        ("smooth.ismv", {"container": "ismv"}),
        ("camera.TOD", {"container": "mpegts", "codec": "mpeg2video"}),
        ("film.vob", {"container": "vob", "codec": "mpeg2video"}),
        ("old.amv", {"container": "avi", "codec": "mpeg4"}),
    ],
)
def test_files_of_less_common_names_are_read(name, settings, write_video, numbered_pictures) -> None:
    path = write_video(numbered_pictures(12), name, **settings)

    with VideoReader(path) as reader:
        frames = list(reader)

    assert path.suffix.lower() in VIDEO_SUFFIXES
    assert len(frames) == 12
    assert [frame.time_s for frame in frames] == pytest.approx([index / 25 for index in range(12)], abs=1e-3)


def as_parts(pictures: list[bytes], line: Callable[[bytes], bytes]) -> bytes:
    return b"".join(b"--frame\r\nContent-Type: image/jpeg\r\n%s\r\n%s\r\n" % (line(one), one) for one in pictures)


@pytest.mark.parametrize("has_length", [False, True])
def test_what_a_web_camera_sends_is_a_video(has_length: bool, tmp_path: Path) -> None:
    path = tmp_path / "camera"
    lengths = (lambda one: b"Content-Length: %d\r\n" % len(one)) if has_length else (lambda one: b"")
    path.write_bytes(as_parts([picture(".jpg")] * 10, lengths))

    with VideoReader(path) as reader:
        assert len(list(reader)) == 10


def test_a_long_raw_mjpeg_is_read_to_its_end(write_video, numbered_pictures, number_of) -> None:
    path = write_video(numbered_pictures(200), "a.mjpeg", codec="mjpeg", container="mjpeg", pixel_format="yuvj420p")

    with VideoReader(path) as reader:
        assert [number_of(frame.picture.to_ndarray(format="rgb24")) for frame in reader] == list(range(200))


def test_a_photograph_of_several_pictures_is_a_picture(tmp_path: Path) -> None:
    jpeg = picture(".jpg")
    extension = b"\xff\xe2" + (2 + 4 + 8).to_bytes(2, "big") + b"MPF\0" + bytes(8)
    path = tmp_path / "photo.mpo"
    path.write_bytes(jpeg[:2] + extension + jpeg[2:] + jpeg)

    error = refusal(path)

    assert error.kind is ErrorKind.NOT_A_VIDEO
    assert "a JPEG picture" in error.message


def test_no_demuxer_that_reads_other_files_is_allowed() -> None:
    from services.keyframes.reading.opening import CONTAINERS

    reading_others = {
        "hls",
        "dash",
        "concat",
        "concatf",
        "image2",
        "sdp",
        "rtsp",
        "rtp",
        "imf",
        "tee",
        "lavfi",
        "vapoursynth",
    }
    assert not reading_others & set(CONTAINERS.split(","))
    assert not any(name.endswith("_pipe") for name in CONTAINERS.split(","))
    assert {av.ContainerFormat(name, "r").name for name in CONTAINERS.split(",")}
