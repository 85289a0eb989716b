"""Says what a file is that is no video, or only a part of one, by how it begins, and what to do instead."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from shared.errors import ErrorKind, PermanentError

# As much as is looked at. An ISO image names itself at 32,769.
START_BYTES = 64 * 1024
# Bytes without any order have 8 bits of entropy each; of 64 KiB of them, at least this much is seen.
NOISE_BITS = 7.99


@dataclass(frozen=True, slots=True)
class Content:
    """A kind of file. start: what it begins with. what: its name with an article. advice: what to do instead."""

    start: re.Pattern[bytes]
    what: str
    advice: str


def _content(start: bytes, what: str, advice: str) -> Content:
    return Content(re.compile(start, re.DOTALL | re.IGNORECASE), what, advice)


_PLAYLIST = (
    "It names the pieces of a video and holds none. Submit the page that plays it, or save the video as one file."
)
_LIST = "It names videos and holds none. Submit the addresses in it."
_UNPACK = "Unpack it, and submit the videos in it."
_PICTURE = "Submit the video that it was taken from."
_ORIGIN = "Check what the address really delivers."
_SUBTITLES = "Submit the video that it belongs to."
# Atomic, because a comment that may swallow the next ones costs exponential time.
_COMMENTS = rb"\s*(?>(<!--.*?-->|<\?xml[^>]*>|<!doctype (?!html)[^>]*>)\s*)*+"

# Whole files of other kinds. Binary ones first: their names for themselves are exact.
# https://www.garykessler.net/library/file_sigs.html, and for playlists the standards of their elements.
OTHER_CONTENTS = (
    _content(rb"\x89PNG\r\n", "a PNG picture", _PICTURE),
    _content(rb"\xff\xd8\xff", "a JPEG picture", _PICTURE),
    _content(rb"GIF8[79]a", "a GIF picture", "Submit the video that it was made from, or convert it to MP4."),
    _content(rb"RIFF....WEBP", "a WebP picture", _PICTURE),
    _content(rb"BM.{4}\0\0\0\0", "a BMP picture", _PICTURE),
    _content(rb"II\x2a\0|MM\0\x2a", "a TIFF or raw camera picture", _PICTURE),
    _content(rb"\xff\x0a|\0\0\0\x0cJXL ", "a JPEG XL picture", _PICTURE),
    _content(rb"8BPS\0", "a Photoshop picture", _PICTURE),
    _content(rb".{4}ftyp(avif|avis|heic|hei[msx]|mif1)", "a HEIF or AVIF picture", _PICTURE),
    _content(rb"%PDF-", "a PDF document", _ORIGIN),
    _content(rb"PK(\x03\x04|\x05\x06)", "a ZIP archive or an office document", _UNPACK),
    _content(rb"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    _content(rb"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    _content(rb"\x1f\x8b\x08", "a gzip archive", _UNPACK),
    _content(rb"\xfd7zXZ\0", "an xz archive", _UNPACK),
    _content(rb"BZh[1-9]1AY&SY", "a bzip2 archive", _UNPACK),
    _content(rb"\x28\xb5\x2f\xfd", "a zstd archive", _UNPACK),
    _content(rb".{257}ustar", "a tar archive", _UNPACK),
    _content(rb".{32769}CD001", "a disk image", "Open it, and submit the videos in it."),
    _content(rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an office document", _ORIGIN),
    _content(rb"\x7fELF|MZ.{58}", "a program", _ORIGIN),
    _content(rb"SQLite format 3\0", "a database", _ORIGIN),
    _content(rb"d\d+:(announce|info|creat)", "a torrent", "Download the video that it names, and submit that."),
    _content(rb"\s*#EXTM3U.*#EXT-X-", "a playlist (HLS)", _PLAYLIST),
    _content(rb"\s*#EXTM3U", "a playlist (M3U)", _LIST),
    _content(_COMMENTS + rb"<([a-z]+:)?MPD[\s>]", "a playlist (MPEG-DASH)", _PLAYLIST),
    _content(_COMMENTS + rb"<SmoothStreamingMedia", "a playlist (Smooth Streaming)", _PLAYLIST),
    _content(_COMMENTS + rb"<smil", "a playlist (SMIL)", _PLAYLIST),
    _content(_COMMENTS + rb"<manifest[^>]*ns\.adobe\.com/f4m", "a playlist (Adobe HDS)", _PLAYLIST),
    _content(_COMMENTS + rb"<asx", "a playlist (ASX)", _LIST),
    _content(_COMMENTS + rb"<playlist", "a playlist (XSPF)", _LIST),
    _content(_COMMENTS + rb"<(rss|feed)[\s>]", "a list of posts (RSS)", _LIST),
    _content(rb"\s*\[playlist\]", "a playlist (PLS)", _LIST),
    _content(rb"\s*\[InternetShortcut\]", "a shortcut", "Submit the address in it."),
    _content(rb"\s*ffconcat version", "a list of files (ffconcat)", _LIST),
    _content(rb"v=0\r?\no=", "the description of a live stream (SDP)", "Record the stream, and submit the recording."),
    _content(rb"rtsptext", "a reference to a stream", _PLAYLIST),
    _content(
        rb"version https://git-lfs\.github\.com",
        "the stand-in that Git LFS keeps for a file",
        "Fetch the file itself (`git lfs pull`), and submit that.",
    ),
    _content(_COMMENTS + rb"<svg[\s>]", "an SVG picture", _PICTURE),
    _content(_COMMENTS + rb"<(tt|ttml|([a-z]+:)?tt)[\s>]|\s*<sami", "a file of subtitles", _SUBTITLES),
    _content(rb"\s*WEBVTT|\s*\[Script Info\]|\{\d+\}\{\d+\}", "a file of subtitles", _SUBTITLES),
    _content(rb"\s*\d+\s*\n\d+:\d\d:\d\d[,.]\d+ -->", "a file of subtitles", _SUBTITLES),
    _content(
        _COMMENTS + rb"<(!doctype html|html|head|body|script|title|meta)[\s>]",
        "a web page",
        "Submit the address of the video file itself.",
    ),
    _content(_COMMENTS + rb"<[a-z?]", "an XML document", _ORIGIN),
    _content(rb"\s*[{\[]\s*[\"{\[\]}]", "a JSON document", _ORIGIN),
)

# Pieces of videos. Segments of streams begin with boxes or elements that a whole file has further behind.
# ISO/IEC 14496-12 and 23009-1; https://www.rfc-editor.org/rfc/rfc8794 and the Matroska elements.
_PUT_TOGETHER = (
    "Submit the page or the whole video; or put the stream's beginning (its init segment) and all pieces, in order, "
    "into one file."
)
PIECES = (
    _content(
        rb"(.{4}(styp|sidx|ssix|prft|emsg).*?)?.{4}moof", "a piece of an MP4 that was cut for streaming", _PUT_TOGETHER
    ),
    _content(rb".{4}(styp|sidx|ssix|prft|emsg)", "a piece of an MP4 that was cut for streaming", _PUT_TOGETHER),
    _content(rb"\x1f\x43\xb6\x75", "a piece of a WebM file that was cut for streaming", _PUT_TOGETHER),
)

# How files begin that would be videos if the rest of them were there.
CONTAINER_STARTS = (
    (re.compile(rb".{4}(ftyp|moov|mdat|wide|pnot)", re.DOTALL), "an MP4"),
    (re.compile(rb"\x1a\x45\xdf\xa3"), "a Matroska or WebM file"),
    (re.compile(rb"RIFF.{4}AVI ", re.DOTALL), "an AVI"),
    (re.compile(rb"FLV\x01"), "a Flash video"),
    (re.compile(rb"YUV4MPEG2 "), "a Y4M"),
    (re.compile(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"), "a Windows Media file"),
)


def why_not_a_video(file: BinaryIO) -> PermanentError:
    """Return what to raise of a file that FFmpeg did not open."""
    start = _start_of(file)
    if not start.strip(b"\0"):
        return PermanentError(
            ErrorKind.NOT_A_VIDEO,
            "The file is not a video but begins with nothing but zeros: most likely a download that was never "
            "finished. Fetch it again.",
        )
    return (
        known_content(file)
        or _cut_off(start)
        or PermanentError(
            ErrorKind.NOT_A_VIDEO,
            f"The file is not a video that can be read: its content is {_looks_like(start)}, whatever its name says. "
            "Check what the address really delivers.",
        )
    )


def known_content(file: BinaryIO) -> PermanentError | None:
    """Return what to raise of a file that names itself as something else than a whole video, None of any other."""
    start = _start_of(file)
    for piece in PIECES:
        if piece.start.match(start):
            return PermanentError(
                ErrorKind.DAMAGED,
                f"The file is {piece.what}; its beginning, which says how to read it, is missing. {piece.advice}",
            )
    if _is_beginning_alone(start):
        return PermanentError(
            ErrorKind.DAMAGED,
            "The file is the beginning of an MP4 that was cut for streaming (its init segment); the pieces with the "
            f"frames are missing. {_PUT_TOGETHER}",
        )
    text = _as_plain_text(start)
    for content in OTHER_CONTENTS:
        if content.start.match(text):
            return PermanentError(
                ErrorKind.NOT_A_VIDEO, f"The file is not a video but {content.what}. {content.advice}"
            )
    return None


def is_still_picture(file: BinaryIO) -> bool:
    """Whether the JPEG pictures of a file are parts of one photograph (CIPA DC-007, Multi-Picture Format)."""
    return b"MPF\0" in _start_of(file)


def _start_of(file: BinaryIO) -> bytes:
    return os.pread(file.fileno(), START_BYTES, 0)  # FFmpeg goes on reading where it was


def _is_beginning_alone(start: bytes) -> bool:
    is_whole_file = len(start) < START_BYTES
    return is_whole_file and start[4:8] == b"ftyp" and b"mvex" in start and b"mdat" not in start


def _cut_off(start: bytes) -> PermanentError | None:
    for pattern, container in CONTAINER_STARTS:
        if pattern.match(start):
            return PermanentError(
                ErrorKind.DAMAGED,
                f"The file begins like {container}, but the part that says what its frames are, and where, is missing "
                "or damaged: most likely it was cut off. Send the whole file.",
            )
    return None


def _as_plain_text(start: bytes) -> bytes:
    """The same without a byte order mark; text of UTF-16 as UTF-8."""
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) and not start.startswith(b"\xff\xfe\0\0"):
        return start.decode("utf-16", errors="replace").encode(errors="replace")
    return start.removeprefix(b"\xef\xbb\xbf")


def _looks_like(start: bytes) -> str:
    counts = np.bincount(np.frombuffer(start, np.uint8), minlength=256)
    shares = counts[counts > 0] / len(start)
    if len(start) == START_BYTES and -(shares * np.log2(shares)).sum() > NOISE_BITS:
        return "without any order, as that of encrypted or packed files is"
    if not counts[:9].any():
        return "a text"
    return "something else"
