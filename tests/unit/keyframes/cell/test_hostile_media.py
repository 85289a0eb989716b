"""Files made to do harm open nothing else, and their claims are bounded, whichever wall is the one that stands.

FFmpeg left alone shows first that each trick works and that the canary notices.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest
from av.error import FFmpegError

from services.keyframes.cell import sandbox
from services.keyframes.cell.decoder import Decoder
from services.keyframes.cell.sandbox import Allowance
from services.keyframes.extraction import extract
from services.keyframes.reading import opening
from services.keyframes.reading.frames import VideoReader
from services.keyframes.reading.limits import DecodeLimits
from shared import landlock
from shared.errors import ErrorKind, PermanentError
from tests.unit.keyframes.cell.boxes import with_external_data, with_remote_data
from tests.unit.keyframes.cell.canaries import Canary

linux = pytest.mark.skipif(sys.platform != "linux", reason="the canary listens to inotify")
pytestmark = linux

PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n",
    "hls key": '#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-KEY:METHOD=AES-128,URI="{target}"\n#EXTINF:1,\n{target}\n',
    "hls header": '#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MAP:URI="{target}"\n#EXTINF:1,\n{target}\n',
    "hls master": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{target}\n",
    "hls concat": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nconcat:{target}|{target}\n#EXT-X-ENDLIST\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT1S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">'
    "<BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>",
    "ffconcat": "ffconcat version 1.0\nfile '{target}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\na=control:{target}\n",
    "svg": '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="9" height="9">'
    '<image xlink:href="{target}" width="9" height="9"/></svg>',
    "m3u": "{target}\n",
    "pls": "[playlist]\nFile1={target}\nNumberOfEntries=1\n",
    "asx": '<asx version="3.0"><entry><ref href="{target}"/></entry></asx>',
    "smil": '<smil><body><video src="{target}"/></body></smil>',
    "quicktime redirect": "rtsptextRTSPtext{target}\n",
    "subtitles": "1\n00:00:00,000 --> 00:00:01,000\n<img src='{target}'>\n",
    "edit list": 'file "{target}"\n',
}
SUFFIXES = {"hls": ".m3u8", "dash": ".mpd", "ffconcat": ".ffconcat", "sdp": ".sdp", "svg": ".svg"}


@pytest.fixture
def canary(tmp_path) -> Iterator[Canary]:
    with Canary(tmp_path / "canary.ts") as canary:
        yield canary


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    with Decoder() as decoder:
        yield decoder


@pytest.fixture
def referring(tmp_path, canary, write_video, numbered_pictures) -> Callable[[str, str, str], Path]:
    """A function that writes a file of the kind and suffix, which names the canary's file or server."""

    def write(kind: str, target: str, suffix: str = ".mp4") -> Path:
        name = canary.url if target == "server" else f"file:{canary.file}"
        path = tmp_path / f"hostile{suffix}"
        if kind == "external data":
            mp4 = write_video(numbered_pictures(5), "honest.mp4").read_bytes()
            path.write_bytes(with_external_data(mp4, name if target == "server" else str(canary.file)))
        else:
            path.write_text(PLAYLISTS[kind].format(target=name, port=canary.port))
        return path

    return write


def open_without_care(path: Path, format: str | None = None) -> None:
    """Read the file as one who trusts it would, with everything that FFmpeg can do switched on."""
    options = {
        "protocol_whitelist": "file,http,tcp,crypto,data,concat",
        "allowed_extensions": "ALL",
        "extension_picky": "0",
        "safe": "0",
        "enable_drefs": "1",
        "use_absolute_path": "1",
    }
    with suppress(FFmpegError), av.open(str(path), format=format, options=options, timeout=5) as container:
        for _ in container.demux():
            pass


# Of the tricks, those that reach the canary through FFmpeg when nobody stops it.
WORKING = {
    "hls, file": ("hls", "file", "hls", "file"),
    "hls, server": ("hls", "server", "hls", "server"),
    "hls master, server": ("hls master", "server", "hls", "server"),
    "ffconcat, file": ("ffconcat", "file", "concat", "file"),
    "ffconcat, server": ("ffconcat", "server", "concat", "server"),
    "external data, file": ("external data", "file", None, "file"),
}


@pytest.mark.parametrize("trick", WORKING)
def test_ffmpeg_left_alone_falls_for_it(trick, referring, canary) -> None:
    kind, target, format, touched = WORKING[trick]

    open_without_care(referring(kind, target), format)

    assert canary.touched() == {touched}


def without_care_behind(wall: Callable[[], None], path: Path, format: str | None) -> None:
    child_pid = os.fork()
    if not child_pid:
        try:
            wall()
            open_without_care(path, format)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child_pid, 0)[1]) == 0


@pytest.mark.skipif(landlock.version() < min(landlock.TCP_RIGHTS), reason="needs Landlock that knows TCP")
@pytest.mark.parametrize("trick", WORKING)
def test_landlock_alone_stops_it(trick, referring, canary, tmp_path) -> None:
    kind, target, format, _ = WORKING[trick]
    path = referring(kind, target)
    (tmp_path / "out").mkdir()

    def wall() -> None:
        sandbox.give_back_rights()  # without which only root may build it
        sandbox.restrict_files(Allowance(path, tmp_path / "out", memory_bytes=0, cpu_s=0))

    without_care_behind(wall, path, format)

    assert canary.touched() == set()


@pytest.mark.skipif(sandbox._seccomp() is None, reason=f"{sandbox.SECCOMP_LIBRARY} is not installed")
@pytest.mark.parametrize("trick", [trick for trick in WORKING if trick.endswith("server")])
def test_the_filter_alone_stops_what_talks(trick, referring, canary) -> None:
    kind, target, format, _ = WORKING[trick]

    def wall() -> None:
        sandbox.give_back_rights()
        sandbox.forbid_calls()

    without_care_behind(wall, referring(kind, target), format)

    assert canary.touched() == set()


@pytest.mark.parametrize("target", ["file", "server"])
@pytest.mark.parametrize("kind", [*PLAYLISTS, "external data"])
def test_the_reader_alone_opens_nothing_else(kind, target, referring, canary, tmp_path) -> None:
    suffixes = {".mp4", SUFFIXES.get(kind.split()[0], ".mp4")}
    for suffix in suffixes:
        with pytest.raises(PermanentError) as caught:
            extract(referring(kind, target, suffix), tmp_path / "out")
        assert caught.value.kind in (ErrorKind.NOT_A_VIDEO, ErrorKind.DAMAGED)

    assert canary.touched() == set()


def test_data_that_is_said_to_be_at_a_url_is_not_fetched(
    decoder, canary, write_video, numbered_pictures, tmp_path
) -> None:
    path = write_video(numbered_pictures(5))
    path.write_bytes(with_remote_data(path.read_bytes(), canary.url))

    assert decoder.extract(path, tmp_path / "out").frames == 5  # the file has the data too
    assert canary.touched() == set()


def test_the_reader_hands_out_no_second_file_even_to_a_format_that_asks(referring, canary, monkeypatch) -> None:
    monkeypatch.setattr(opening, "CONTAINERS", f"{opening.CONTAINERS},hls")

    with pytest.raises(PermanentError, match="refers to other files"), VideoReader(referring("hls", "file", ".m3u8")):
        pass

    assert canary.touched() == set()


@pytest.mark.parametrize("target", ["file", "server"])
def test_the_whole_decoder_touches_nothing_else(target, decoder, referring, canary, tmp_path) -> None:
    for kind in [*PLAYLISTS, "external data"]:
        with pytest.raises(PermanentError) as caught:
            decoder.extract(referring(kind, target), tmp_path / "out")
        assert caught.value.kind in (ErrorKind.NOT_A_VIDEO, ErrorKind.DAMAGED)

    assert canary.touched() == set()


def refusal(path: Path, decoder: Decoder, tmp_path: Path) -> ErrorKind:
    limits = DecodeLimits(max_memory_bytes=512 * 2**20, max_cpu_s=20)
    with pytest.raises(PermanentError) as caught:
        decoder.extract(path, tmp_path / "out", limits=limits)
    assert caught.value.kind is not ErrorKind.INTERNAL
    return caught.value.kind


def png_that_claims(png: bytes, width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">II", width, height) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


def test_a_picture_of_sixty_thousand_pixels_a_side_is_refused(decoder, write_video, corner_picture, tmp_path) -> None:
    film = write_video([corner_picture], "png.mov", codec="png", pixel_format="rgb24")
    data = film.read_bytes()
    png = data[data.index(b"\x89PNG") :]
    alone = tmp_path / "picture.mp4"
    alone.write_bytes(png_that_claims(png, 60_000, 60_000))
    film.write_bytes(data.replace(png, png_that_claims(png, 60_000, 60_000)))

    assert refusal(alone, decoder, tmp_path) is ErrorKind.NOT_A_VIDEO
    assert refusal(film, decoder, tmp_path) is ErrorKind.DAMAGED


def test_a_frame_of_ninety_six_megapixels_is_refused(decoder, tmp_path) -> None:
    path = tmp_path / "large.avi"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 12_000, 8_000, "yuvj420p"
        frame = av.VideoFrame(12_000, 8_000, "yuvj420p")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.pts = 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))

    assert refusal(path, decoder, tmp_path) is ErrorKind.TOO_LARGE


def test_ten_thousand_frames_a_second_are_read_with_their_times(
    decoder, write_video, numbered_pictures, tmp_path
) -> None:
    extraction = decoder.extract(write_video(numbered_pictures(50), rate_hz=10_000), tmp_path / "out")

    assert extraction.frames == 50
    assert extraction.duration_s == pytest.approx(0.005, abs=1e-4)


def test_a_header_of_twenty_four_hours_is_refused(decoder, write_video, numbered_pictures, tmp_path) -> None:
    path = write_video(numbered_pictures(5), "long.mkv")
    duration = b"\x44\x89\x88"  # Duration, an 8-byte float in milliseconds
    data = path.read_bytes()
    at = data.index(duration) + len(duration)
    path.write_bytes(data[:at] + struct.pack(">d", 24 * 3600 * 1000.0) + data[at + 8 :])

    assert refusal(path, decoder, tmp_path) is ErrorKind.TOO_LONG


def test_a_thousand_streams_are_refused(decoder, tmp_path) -> None:
    path = tmp_path / "streams.mkv"
    with av.open(str(path), "w") as output:
        streams = [output.add_stream("rawvideo", rate=25) for _ in range(1000)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        for stream in streams:
            frame = av.VideoFrame.from_ndarray(np.zeros((24, 16), np.uint8), "yuv420p")
            frame.pts = 0
            output.mux(stream.encode(frame))

    assert refusal(path, decoder, tmp_path) is ErrorKind.TOO_LARGE


def test_a_folder_a_pipe_and_a_device_are_no_videos(decoder, tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")

    for path in (tmp_path, tmp_path / "pipe.mp4", Path("/dev/zero")):
        assert refusal(path, decoder, tmp_path) is ErrorKind.NOT_A_VIDEO


def test_a_name_that_looks_like_a_url_is_a_name(decoder, write_video, numbered_pictures, tmp_path, canary) -> None:
    folder = tmp_path / f"http:/127.0.0.1:{canary.port}"
    folder.mkdir(parents=True)
    path = write_video(numbered_pictures(5)).rename(folder / "video.mp4")

    assert decoder.extract(path, tmp_path / "out").frames == 5
    assert canary.touched() == set()


@pytest.mark.parametrize("name", ["%03d.mp4", "pipe:0", "-i", "concat:a|b.mp4", "data:,x.mp4", "a\nb.mp4", "ü ☃.mp4"])
def test_a_name_of_any_kind_is_only_a_name(name, decoder, write_video, numbered_pictures, tmp_path) -> None:
    path = write_video(numbered_pictures(5)).rename(tmp_path / name)

    assert json.loads(json.dumps(decoder.extract(path, tmp_path / "out").frames)) == 5
