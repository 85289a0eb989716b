"""Opens a file as a container of video: FFmpeg is handed the one open file, and opens nothing itself."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import BinaryIO, NoReturn

import av
from av.container import InputContainer
from av.error import FFmpegError

from services.keyframes.reading.contents import is_still_picture, why_not_a_video
from services.keyframes.reading.limits import DecodeLimits, pixel_limit, refuse_if_memory_is_short
from shared.errors import ErrorKind, PermanentError

# Demuxers of moving pictures and of the sound files people send by mistake. Left out on purpose: single pictures, text
# (FFmpeg draws it), playlists and everything else that reads other files.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,asf,flv,live_flv,kux,ogg,rm,mxf,dv,nut,ivf,obu,av1,"
    "h261,h263,h264,hevc,m4v,vc1,wtv,mjpeg,mpjpeg,yuv4mpegpipe,mp3,wav,w64,flac,aac,ac3,eac3,amr,aiff,caf,ape,wv"
)


# HEIF and AVIF photographs use the MP4 container; these brands say so. https://mp4ra.org/registered-types/brands
PICTURE_BRANDS = frozenset({"avif", "heic", "heim", "heis", "heix", "mif1"})


def open_file(path: Path) -> BinaryIO:
    if not path.exists():
        raise PermanentError(ErrorKind.NOT_FOUND, f"There is no file {path}. Check its name.")
    if not path.is_file():
        raise PermanentError(ErrorKind.NOT_A_VIDEO, f"{path} is not a file. Name the video files inside it.")
    if path.stat().st_size == 0:
        raise PermanentError(ErrorKind.EMPTY, "The file is empty (0 bytes). Check its origin, and send it again.")
    return path.open("rb", buffering=0)  # FFmpeg has a buffer of its own


class _Input:
    """An open file as FFmpeg is given it.

    A place where nobody can read is an answer here: an exception would be raised by PyAV after FFmpeg got over it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.name = file.name  # FFmpeg guesses raw formats by it
        self.read = file.read
        self.tell = file.tell
        self._seek = file.seek

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._seek(offset, whence)
        except OSError as error:
            return -(error.errno or errno.EINVAL)


def open_container(file: BinaryIO, limits: DecodeLimits) -> InputContainer:
    try:
        container = av.open(
            _Input(file),
            "r",
            options={
                "protocol_whitelist": "file",
                "format_whitelist": CONTAINERS,
                "enable_drefs": "0",
                **pixel_limit(limits),
                "threads": "1",
            },
            io_open=_refuse_other_files,
            metadata_errors="ignore",
        )
    except FFmpegError as error:
        refuse_if_memory_is_short(limits, error)
        raise why_not_a_video(file) from error
    is_photograph = container.metadata.get("major_brand", "").strip() in PICTURE_BRANDS
    if is_photograph or (container.format.name == "mjpeg" and is_still_picture(file)):
        container.close()
        raise why_not_a_video(file)
    return container


def _refuse_other_files(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    """What FFmpeg calls when a file names another one that it wants to open."""
    raise PermanentError(
        ErrorKind.NOT_A_VIDEO,
        "The file does not hold its pictures itself but refers to other files, which are never opened. Send the file "
        "that holds them.",
    )
