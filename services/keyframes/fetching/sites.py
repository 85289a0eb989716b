"""Download a video from a site that yt-dlp knows, in a process of its own.

This file is both ends: `fetch_from_site` starts `python -m services.keyframes.fetching.sites`, which reads one JSON
request from its standard input, does the work, and prints one JSON answer. A process of its own because yt-dlp runs the
code of 1,700 sites and a JavaScript runtime, cannot be interrupted, and keeps what it once allocated; here it can be
killed with everything it started.

yt-dlp opens connections wherever pages lead it. All of them go through an egress proxy that lives as long as the child
and judges every destination; where the kernel can, it lets the child connect to nothing else. The child is given no
program that would connect by itself (no ffmpeg, no downloader; deno runs without any permission), no plugin, no one's
configuration, and a bound on its memory, because a page may unpack into more than it looks.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, Any

from services.keyframes.fetching.limits import FetchLimits
from services.keyframes.fetching.site_errors import site_error
from shared.clean_text import quoted
from shared.egress.addresses import Reach
from shared.egress.proxy import NOT_CONNECTED, EgressProxy
from shared.egress.tcp_fence import allow_tcp_only_to, missing_fence
from shared.errors import ErrorKind, PermanentError, TransientError

logger = logging.getLogger(__name__)

_CHECK_EVERY_S = 0.5
#: What yt-dlp calls lists.
_LISTS = ("playlist", "multi_video")
_MAX_TITLE_CHARACTERS = 1000
_REPOSITORY = Path(__file__).parents[3]


@dataclass(frozen=True)
class SiteVideo:
    """A downloaded file, with the site's title and its own address of the page."""

    path: Path
    title: str | None
    page_url: str


@dataclass(frozen=True)
class ListedVideo:
    """One entry of a list: its address as the site gives it, not checked, and its title."""

    url: str
    title: str | None


@dataclass(frozen=True)
class VideoList:
    """What a page names that is a list of videos, a channel for one: its entries in the site's order."""

    entries: tuple[ListedVideo, ...]
    title: str | None


@dataclass(frozen=True)
class _Request:
    """What the child is told; proxy_url holds a password, so it is in no command line and in no message."""

    url: str
    folder: str
    limits: dict[str, Any]
    allow_generic_extractor: bool
    max_listed: int
    proxy_url: str = field(repr=False)
    proxy_port: int


def fetch_from_site(
    url: str,
    folder: Path,
    limits: FetchLimits,
    *,
    reach: Reach,
    check: Callable[[], None],
    allow_generic_extractor: bool = False,
    max_listed: int = 0,
) -> SiteVideo | VideoList | None:
    """Download the video of a page into `folder`; None when it is not a page of a site yt-dlp knows.

    check: called about twice a second; what it raises kills the child and is raised here.
    allow_generic_extractor: let yt-dlp look for videos in pages of sites it does not know.
    max_listed: of a page that names a list, return the first so many entries; 0: refuse it as a list.

    Raises PermanentError or TransientError with a sentence for the person who gave the URL. After an error `folder` may
    hold parts of files; removing them is the caller's part.
    """
    with EgressProxy(reach, limits) as proxy:
        request = _Request(url, str(folder), asdict(limits), allow_generic_extractor, max_listed, proxy.url, proxy.port)
        answer = _ask_child(request, limits, check)
    if not answer["is_fenced"]:
        _say_no_fence()
    return _outcome(answer, request, limits, proxy)


@cache
def _say_no_fence() -> None:
    """Once in a process: it is the same for every fetch."""
    logger.warning("%s", missing_fence() or "yt-dlp was not fenced in", extra={"event": "wall_missing"})


def _outcome(
    answer: dict[str, Any], request: _Request, limits: FetchLimits, proxy: EgressProxy
) -> SiteVideo | VideoList | None:
    """What the child's answer means, together with what the proxy saw."""
    url = request.url
    if not answer["claimed"]:
        return None
    if "kind" in answer:
        raise _refusal(ErrorKind(answer["kind"]), url, limits)
    refusal, failure = proxy.refusal, proxy.failure
    # Bytes that were cut off can look like the end of a file; an address that was refused may not have been needed.
    if refusal and ("message" in answer or refusal.kind is ErrorKind.TOO_LARGE):
        raise PermanentError(refusal.kind, f"{url}: {refusal.message}")
    if "message" in answer:
        if failure and NOT_CONNECTED in answer["message"]:
            raise TransientError(failure.kind, f"{url}: {failure.message}")
        raise site_error(answer["message"], url)
    if proxy.connections == 0:
        raise PermanentError(
            ErrorKind.INTERNAL,
            f"{url}: bytes came in past the egress proxy, so it was thrown away; this is a defect of Reelmap, please "
            "report it with the address.",
        )
    if "entries" in answer:
        return VideoList(tuple(ListedVideo(**entry) for entry in answer["entries"]), answer["title"])
    return SiteVideo(Path(request.folder) / answer["file"], answer["title"], answer["page_url"] or url)


def _refusal(kind: ErrorKind, url: str, limits: FetchLimits) -> PermanentError:
    """What this program refuses, though the site would give it."""
    says = {
        ErrorKind.LIVE_STREAM: "it is a live stream or premiere; submit the recording once there is one",
        ErrorKind.PLAYLIST: "it names a list of videos; submit it with expand to have them all, or the address of each",
        ErrorKind.NOT_FOUND: "it names a list of videos, and the list is empty",
        ErrorKind.TOO_LONG: f"the video is longer than {limits.max_duration_s:g} s, the most a video may last; "
        "submit a part of it, or have the limit raised",
        ErrorKind.TOO_LARGE: f"the video is larger than {limits.max_bytes:,} bytes, the most a video may have; "
        "upload a smaller version of it, or have the limit raised",
        ErrorKind.NOT_A_VIDEO: "its pages unpack into more than this machine may hold; submit the address of the "
        "video file itself",
    }[kind]
    return PermanentError(kind, f"{url}: {says}.")


def _ask_child(request: _Request, limits: FetchLimits, check: Callable[[], None]) -> dict[str, Any]:
    end_s = time.monotonic() + limits.total_timeout_s
    # Files instead of pipes: nobody has to drain them while waiting.
    with tempfile.TemporaryFile() as answers, tempfile.TemporaryFile() as complaints:
        child = _start_child(request.folder, answers, complaints)
        try:
            assert child.stdin is not None
            # The pipe then stays open: its end tells the child that this process is gone.
            child.stdin.write(json.dumps(asdict(request)).encode() + b"\n")
            child.stdin.flush()
            while not _has_ended(child):
                check()
                if time.monotonic() > end_s:
                    raise PermanentError(
                        ErrorKind.DEADLINE,
                        f"{request.url}: the download took longer than {limits.total_timeout_s:g} s, the most it may "
                        "take; upload the file, or have the limit raised.",
                    )
        finally:
            _kill_group(child)
        answers.seek(0)
        complaints.seek(0)
        return _parse_answer(request.url, answers.read(), complaints.read())


def _start_child(folder: str, answers: IO[bytes], complaints: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        # -P: the folder it runs in must not be searched for modules.
        [sys.executable, "-P", "-m", "services.keyframes.fetching.sites"],
        stdin=subprocess.PIPE,
        stdout=answers,
        stderr=complaints,
        cwd=folder,
        # Nothing of ours: no proxy, no credential, no one's yt-dlp or deno configuration; and no program to be found.
        env={
            "PATH": os.devnull,
            "HOME": folder,
            "TMPDIR": folder,
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(_REPOSITORY),
            "YTDLP_NO_PLUGINS": "1",
            "DENO_NO_UPDATE_CHECK": "1",
        },
        start_new_session=True,
    )


def _has_ended(child: subprocess.Popen[bytes]) -> bool:
    try:
        child.wait(timeout=_CHECK_EVERY_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    """End the child and whatever it started; also after it ended by itself, for what it may have left."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert child.stdin is not None
    with suppress(BrokenPipeError):
        child.stdin.close()


def _parse_answer(url: str, answer: bytes, complaint: bytes) -> dict[str, Any]:
    try:
        parsed: dict[str, Any] = json.loads(answer)
    except ValueError:
        last_words = quoted("".join(complaint.decode(errors="replace").strip().splitlines()[-1:]))
        raise TransientError(
            ErrorKind.INTERNAL,
            f"{url}: the process that runs yt-dlp ended without an answer ({last_words or 'no word'}).",
        ) from None
    return parsed


# ---- the child ----


class _Refused(Exception):
    """What we do not want although the site offers it; carries the ErrorKind."""

    def __init__(self, kind: ErrorKind) -> None:
        super().__init__(kind)
        self.kind = kind


def main() -> None:
    """Read a request, print an answer. Everything yt-dlp may print goes to standard error."""
    answers, sys.stdout = sys.stdout, sys.stderr
    request = _Request(**json.loads(sys.stdin.buffer.readline()))
    is_fenced = allow_tcp_only_to(request.proxy_port)
    _limit_memory(request.limits["max_memory_bytes"])
    threading.Thread(target=_die_with_parent, daemon=True).start()
    answers.write(json.dumps({"is_fenced": is_fenced, **_serve(request)}))
    answers.flush()


def _limit_memory(max_bytes: int) -> None:
    # The data and not the address space, of which JavaScript runtimes reserve terabytes that they never touch.
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (max_bytes if most < 0 else min(max_bytes, most), most))


def _die_with_parent() -> None:
    sys.stdin.buffer.read()
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _serve(request: _Request) -> dict[str, Any]:
    from yt_dlp.utils import YoutubeDLError

    if not (request.allow_generic_extractor or _is_claimed(request.url)):
        return {"claimed": False}
    limits = FetchLimits(**request.limits)
    options = _options(request, limits)
    try:
        return {"claimed": True, **_download(request, options, limits)}
    except _Refused as refused:
        return {"claimed": True, "kind": refused.kind}
    except MemoryError:
        return {"claimed": True, "kind": ErrorKind.NOT_A_VIDEO}
    except YoutubeDLError as error:
        return {"claimed": True, "message": str(error)}
    except Exception as error:
        # Its extractors trip over pages that changed, or were made for it, with whatever error that happens to be.
        return {"claimed": True, "message": f"{type(error).__name__}: {error}"}


def _is_claimed(url: str) -> bool:
    """Whether an extractor of yt-dlp is made for this very site."""
    from yt_dlp.extractor import gen_extractor_classes

    return any(extractor.suitable(url) and extractor.IE_NAME != "generic" for extractor in gen_extractor_classes())


def _download(request: _Request, options: dict[str, Any], limits: FetchLimits) -> dict[str, Any]:
    from yt_dlp import YoutubeDL

    with YoutubeDL(options) as site:
        info = site.extract_info(request.url, download=False)
        if request.max_listed and (entries := _listed(info, request)):
            return {"entries": entries, "title": _title(info)}
        info = _single_video(site, info)
        if info.get("is_live") or info.get("live_status") in ("is_live", "is_upcoming", "post_live"):
            raise _Refused(ErrorKind.LIVE_STREAM)
        if (info.get("duration") or 0) > limits.max_duration_s:
            raise _Refused(ErrorKind.TOO_LONG)
        done = site.process_ie_result(info, download=True)
    path = Path(done["requested_downloads"][0]["filepath"])
    return {"file": path.name, "title": done.get("title"), "page_url": done.get("webpage_url")}


def _listed(info: dict[str, Any], request: _Request) -> list[dict[str, Any]]:
    """The entries of a list, each address once; none where the page names a single video."""
    if info.get("_type", "video") not in _LISTS:
        return []
    entries = [entry for entry in itertools.islice(info["entries"], request.max_listed) if entry]
    if not entries:
        raise _Refused(ErrorKind.NOT_FOUND)
    if len(entries) == 1 and not _leads_on(entries[0]):
        return []
    by_address = {
        address: {"url": address, "title": _title(entry)}
        for entry in entries
        if (address := _address(entry, info.get("webpage_url") or request.url))
    }
    return list(by_address.values())


def _leads_on(entry: dict[str, Any]) -> bool:
    """Whether an entry is an address to look at, and not a video that the page itself holds."""
    return entry.get("_type") in ("url", "url_transparent")


def _address(entry: dict[str, Any], page_url: str) -> str | None:
    """Where an entry can be fetched by itself; None where the site does not say."""
    if _leads_on(entry):
        return entry.get("url")
    own_page: str | None = entry.get("webpage_url")
    if own_page and own_page != page_url:
        return own_page
    address: str | None = (entry.get("formats") or [entry])[-1].get("url")
    return address


def _title(info: dict[str, Any]) -> str | None:
    return (info.get("title") or "")[:_MAX_TITLE_CHARACTERS] or None


def _single_video(site: Any, info: dict[str, Any]) -> dict[str, Any]:
    """The one video behind a page; many sites wrap it in a list of one."""
    if info.get("_type", "video") not in _LISTS:
        return info
    entries = [entry for entry in info["entries"] if entry]
    if len(entries) != 1:
        raise _Refused(ErrorKind.PLAYLIST)
    return _single_video(site, site.process_ie_result(entries[0], download=False))


def _options(request: _Request, limits: FetchLimits) -> dict[str, Any]:
    import deno  # type: ignore[import-untyped]

    return {
        "allowed_extractors": ["default"] if request.allow_generic_extractor else ["default", "-generic"],
        # Of an address that names a video and the list that it is in, the list only where lists are asked for. Two
        # entries are enough to see that it is one, and none of them is looked into.
        "noplaylist": not request.max_listed,
        "playlist_items": f"1:{request.max_listed or 2}",
        "extract_flat": "in_playlist",
        # The picture alone if the site has it apart; near 480 lines of the shorter side; what decodes fastest.
        "format": "bv/bv*",
        # yt-dlp's own code opens the connections, also where it would rather leave it to a program.
        "external_downloader": {"default": "native"},
        "format_sort": [f"res:{limits.max_height_lines}", "vcodec:h264"],
        "outtmpl": {"default": "video.%(ext)s"},
        "paths": {"home": request.folder},
        "progress_hooks": [_size_limit(limits.max_bytes)],
        # A hole in the picture is not worth a success.
        "skip_unavailable_fragments": False,
        "socket_timeout": limits.read_timeout_s,
        "proxy": request.proxy_url,
        "js_runtimes": {"deno": {"path": deno.find_deno_bin()}},
        # No ffmpeg: it would open connections that the proxy does not see.
        "ffmpeg_location": os.devnull,
        "fixup": "never",
        "cachedir": False,
        "logger": _Silence(),
        "noprogress": True,
        "color": "no_color",
    }


def _size_limit(max_bytes: int) -> Callable[[dict[str, Any]], None]:
    """Hold the limit while bytes come in: yt-dlp's own looks at the announced size only, and not at fragments."""

    def stop_if_too_large(progress: dict[str, Any]) -> None:
        if max(progress.get("downloaded_bytes") or 0, progress.get("total_bytes") or 0) > max_bytes:
            raise _Refused(ErrorKind.TOO_LARGE)

    return stop_if_too_large


class _Silence:
    """yt-dlp's logger: errors come as exceptions, and the rest has no reader."""

    def debug(self, message: str) -> None: ...

    def warning(self, message: str) -> None: ...

    def error(self, message: str) -> None: ...


if __name__ == "__main__":
    main()
