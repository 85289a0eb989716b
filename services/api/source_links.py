"""Where to open a source at one second, for sites and files that have a way to say so. Pure."""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from shared.urls import BUCKET_SCHEME, UPLOAD_SCHEME

_MEDIA_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".webm", ".mkv", ".ogv", ".ogg", ".avi", ".mpg", ".mpeg", ".ts"})
#: Host without `www.` and `m.` -> the query parameter that holds whole seconds.
_SECONDS_PARAMETER = {"youtube.com": "t", "youtu.be": "t", "music.youtube.com": "t", "dailymotion.com": "start"}


def link_at(url: str, time_s: float) -> str | None:
    """The address that shows `url` from `time_s` on; `url` itself where there is no way; None where no browser goes.

    Files get a media fragment (W3C, Media Fragments URI 1.0, section 4.2.1).
    """
    parts = urlsplit(url)
    if parts.scheme in (UPLOAD_SCHEME, BUCKET_SCHEME):
        return None
    host = (parts.hostname or "").removeprefix("www.").removeprefix("m.")
    if host in _SECONDS_PARAMETER:
        name = _SECONDS_PARAMETER[host]
        query = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] != name]
        return urlunsplit(parts._replace(query=urlencode([*query, (name, str(int(time_s)))])))
    if host == "vimeo.com":
        return urlunsplit(parts._replace(fragment=f"t={int(time_s)}s"))
    if PurePosixPath(parts.path).suffix.lower() in _MEDIA_SUFFIXES:
        return urlunsplit(parts._replace(fragment=f"t={time_s:.3f}"))
    return url
