"""Which files are videos by their names: what folders take, what addresses are asked for as files, what is opened.

The content decides what a file is; a name decides only whether it is looked at. Pure.
"""

from __future__ import annotations

from pathlib import PurePath
from types import MappingProxyType

#: Suffix of a video's name, in small letters -> the container that FFmpeg reads it as, by FFmpeg's name.
VIDEO_SUFFIXES = MappingProxyType(
    {
        suffix: container
        for container, suffixes in {
            "mov": ".mp4 .m4v .mov .qt .mp4v .mpg4 .3gp .3gpp .3g2 .3gp2 .f4v .f4p .mj2 .ismv .cmfv .lrv .insv .360",
            "matroska": ".mkv .mk3d .webm",
            "mpegts": ".ts .m2ts .mts .m2t .tp .trp .tod",
            "mpeg": ".mpg .mpeg .mpe .vob .vro .evo .mod",
            "mpegvideo": ".m1v .m2v .mpv",
            "avi": ".avi .divx .xvid .amv",
            "asf": ".asf .wmv .wm",
            "flv": ".flv",
            "ogg": ".ogv .ogg .ogm",
            "rm": ".rm .rmvb",
            "mxf": ".mxf",
            "dv": ".dv .dif",
            "nut": ".nut",
            "ivf": ".ivf",
            "wtv": ".wtv",
            "obu": ".obu .av1",
            "h261": ".h261",
            "h263": ".h263",
            "h264": ".h264 .264 .avc",
            "hevc": ".hevc .h265 .265",
            "vc1": ".vc1",
            "mjpeg": ".mjpeg .mjpg",
            "yuv4mpegpipe": ".y4m",
        }.items()
        for suffix in suffixes.split()
    }
)


def is_video_name(name: str) -> bool:
    """Whether a file or the path of an address is a video's by its suffix."""
    return PurePath(name).suffix.lower() in VIDEO_SUFFIXES
