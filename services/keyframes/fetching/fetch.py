"""Bring the video behind a URL into a local file: as a file when it is one, through yt-dlp when it is a page, through
boto3 when it is in a bucket.

Nothing is configured here and nothing kept: limits come in, a path comes out. Uploads are not fetched, they are blobs
already.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from services.keyframes.fetching.bucket import Buckets, download_object
from services.keyframes.fetching.direct import Download, download
from services.keyframes.fetching.limits import FetchLimits
from services.keyframes.fetching.sites import ListedVideo, SiteVideo, VideoList, fetch_from_site
from shared.clean_text import one_clean_line
from shared.egress.addresses import Reach, checked_addresses
from shared.errors import ErrorKind, PermanentError
from shared.media_types import is_video_name
from shared.urls import BUCKET_SCHEME, DEFAULT_PORTS, SourceUrl, not_opened, parse_source_url

__all__ = ["Buckets", "FetchLimits", "Fetched", "Reach", "VideoList", "fetch"]

_BLOCK_BYTES = 1024 * 1024
_MAX_TITLE_LENGTH = 200


@dataclass(frozen=True)
class Fetched:
    """path: the file, inside the folder that was given.
    sha256: in hex, of the file's bytes.
    title: what the site or the server calls it, fit to be shown; None if it has no name.
    final_url: after redirects, or the site's own address of the page.
    """

    path: Path
    sha256: str
    size_bytes: int
    title: str | None
    final_url: str
    kind: Literal["file", "site"]


def fetch(
    url: str,
    folder: Path,
    limits: FetchLimits,
    *,
    reach: Reach,
    check: Callable[[], None],
    allow_generic_extractor: bool = False,
    buckets: Buckets | None = None,
    max_listed: int = 0,
) -> Fetched | VideoList:
    """Download a video into a new folder inside `folder`; or, where a page names a list of them, say which.

    check: called at least once a second; what it raises (a deadline, a cancelled task) ends the fetch and is raised
        here.
    allow_generic_extractor: let yt-dlp look for videos in pages of sites it does not know.
    buckets: what s3 URLs may name; None for nothing.
    max_listed: so many entries of a list are returned, with titles fit to be shown; 0: lists are refused.

    Raises PermanentError or TransientError with a sentence for the person who gave the URL. On any error nothing is
    left in `folder`.
    """
    source = parse_source_url(url)
    if source.scheme == BUCKET_SCHEME and buckets is None:
        raise not_opened(source)
    if source.scheme not in (*DEFAULT_PORTS, BUCKET_SCHEME):
        raise PermanentError(ErrorKind.UNSUPPORTED_URL, f"{source.url}: only http, https and s3 can be fetched.")
    own_folder = Path(tempfile.mkdtemp(prefix="fetch-", dir=folder))

    def as_file() -> Fetched:
        path = own_folder / "file"
        got: Download
        if buckets is not None and source.scheme == BUCKET_SCHEME:
            got = download_object(source, path, limits, buckets=buckets, check=check)
        else:
            got = download(source, path, limits, reach=reach, check=check)
        return Fetched(path, got.sha256, got.size_bytes, _clean_title(got.file_name), got.final_url, "file")

    def from_site() -> Fetched | VideoList | None:
        # Every connection is judged where it is opened; to know it now saves the start of yt-dlp.
        checked_addresses(source.host, source.port, reach)
        video = fetch_from_site(
            source.url,
            own_folder,
            limits,
            reach=reach,
            check=check,
            allow_generic_extractor=allow_generic_extractor,
            max_listed=max_listed,
        )
        if isinstance(video, VideoList):
            return _that_can_be_fetched(video, source.url)
        return None if video is None else _from_site_video(video, check)

    try:
        if source.scheme == BUCKET_SCHEME:
            return as_file()
        if not _looks_like_a_file(source):
            return from_site() or as_file()
        try:
            return as_file()
        except PermanentError as error:
            # Some sites end their pages' addresses like files: https://commons.wikimedia.org/wiki/File:Name.webm
            if error.kind is not ErrorKind.NOT_A_VIDEO:
                raise
            if (fetched := from_site()) is None:
                raise
            return fetched
    except BaseException:
        shutil.rmtree(own_folder, ignore_errors=True)
        raise


def _looks_like_a_file(source: SourceUrl) -> bool:
    """Which is asked for as a file first: that spares most direct links the start of yt-dlp (a second)."""
    return is_video_name(source.target.partition("?")[0])


def _that_can_be_fetched(listed: VideoList, url: str) -> VideoList:
    """The list in our spelling, without entries whose addresses would be refused.

    Raises PermanentError when none is left.
    """
    entries: dict[str, ListedVideo] = {}
    for entry in listed.entries:
        try:
            source = parse_source_url(entry.url)
        except PermanentError:
            continue
        # A site must not make us fetch what it could not be submitted for: uploads, other people's buckets.
        if source.scheme in DEFAULT_PORTS:
            entries.setdefault(source.url, ListedVideo(source.url, _clean_title(entry.title)))
    if not entries:
        raise PermanentError(
            ErrorKind.UNSUPPORTED_URL, f"{url}: it names a list of videos, and not one of them has an address."
        )
    return VideoList(tuple(entries.values()), _clean_title(listed.title))


def _from_site_video(video: SiteVideo, check: Callable[[], None]) -> Fetched:
    hashed = hashlib.sha256()
    with video.path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            check()
            hashed.update(block)
    size_bytes = video.path.stat().st_size
    if size_bytes == 0:
        raise PermanentError(ErrorKind.EMPTY, f"{video.page_url}: the site sent an empty file (0 bytes).")
    return Fetched(video.path, hashed.hexdigest(), size_bytes, _clean_title(video.title), video.page_url, "site")


def _clean_title(title: str | None) -> str | None:
    """The title as a line of at most 200 characters; None where nothing of it can be shown."""
    return one_clean_line(title or "")[:_MAX_TITLE_LENGTH].rstrip() or None
