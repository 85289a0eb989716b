"""Turns what a person named on the command line (URLs, files, folders, lists) into videos that the API takes."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import DownloadColumn

from services.client import Client
from services.command_line.output import bars
from shared.clean_text import one_clean_line
from shared.errors import PermanentError
from shared.media_types import is_video_name
from shared.urls import parse_source_url
from shared.wording import count

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|upload:")
_NAMED = 5
#: What a text of another system may begin with, the longer mark first; it says how the rest is written.
_MARKS = (
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)


@dataclass(frozen=True)
class Name:
    """What was named, as it was, and where: on the command line, or in a line of a list."""

    text: str
    where: str = ""


@dataclass(frozen=True)
class Video:
    """One video to submit: a URL as text, or a file; and what named it."""

    target: str | Path
    name: Name


@dataclass(frozen=True)
class Inputs:
    """What was named, each once, in order.

    bad: names that nothing can be done with, and why. skipped: files of folders that are no videos by their names.
    """

    videos: tuple[Video, ...]
    bad: tuple[tuple[Name, str], ...]
    skipped: tuple[Path, ...]

    def without(self, bad: Sequence[tuple[Video, str]]) -> Inputs:
        """The same when these turned out to be bad, too."""
        found = [video for video, _ in bad]
        more = tuple((video.name, why) for video, why in bad)
        return replace(self, videos=tuple(v for v in self.videos if v not in found), bad=self.bad + more)


def find_inputs(names: Sequence[Name | str]) -> Inputs:
    """Look every name up."""
    videos: dict[str | Path, Video] = {}
    bad: list[tuple[Name, str]] = []
    skipped: list[Path] = []
    for name in (Name(each) if isinstance(each, str) else each for each in names):
        path = Path(name.text)
        if _URL.match(name.text):
            if reason := _what_is_wrong_with(name.text):
                bad.append((name, reason))
            else:
                videos.setdefault(name.text, Video(name.text, name))
        elif path.is_dir():
            for file in _files_below(path):
                if is_video_name(file.name):
                    videos.setdefault(file, Video(file, name))
                else:
                    skipped.append(file)
        elif path.is_file():
            videos.setdefault(path, Video(path, name))
        else:
            bad.append((name, "it is neither a URL (https://…, s3://…) nor a file or folder that is there"))
    return Inputs(tuple(videos.values()), tuple(bad), tuple(skipped))


def _what_is_wrong_with(url: str) -> str:
    try:
        parse_source_url(url)
    except PermanentError as error:
        # The sentence names the URL first, and so does whoever tells it.
        return error.message.rpartition("”")[2].partition(": ")[2].rstrip(".") or error.message
    return ""


def read_list(content: bytes, called: str) -> list[Name]:
    """The names in a list file: one a line; empty lines and those that begin with # do not count.

    called: what people call the list. Text is taken as it says that it is written, else as UTF-8; what is neither may
    be a file's name, which is bytes.
    """
    lines = enumerate(_decoded(content).splitlines(), start=1)
    stripped = ((number, line.strip()) for number, line in lines)
    return [Name(line, f"line {number} of {called}") for number, line in stripped if line and not line.startswith("#")]


def _decoded(content: bytes) -> str:
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content.removeprefix(mark).decode(encoding, "replace")
    # UTF-16 without its mark: of the two bytes of a letter one is 0, and names hold none.
    if b"\0" in content[:200]:
        return content.decode("utf-16-le" if content[1:2] == b"\0" else "utf-16-be", "replace")
    return content.decode("utf-8", "surrogateescape")


def describe_skipped(skipped: Sequence[Path]) -> str:
    """One line that says which files of folders were left out."""
    named = ", ".join(readable(str(path)) for path in skipped[:_NAMED]) + (", …" if len(skipped) > _NAMED else "")
    what = count(len(skipped), "file that is not a video by its name", "files that are not videos by their names")
    return f"Left out {what}: {named}"


def describe_bad(bad: Sequence[tuple[Name, str]]) -> str:
    """One sentence that names what cannot be submitted, where it stands, and why."""
    reasons = "; ".join(
        f"{f'{name.where}, ' if name.where else ''}“{_cut(_shown(name.text))}”: {why}" for name, why in bad[:_NAMED]
    )
    more = f"; and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    return f"{count(len(bad), 'name')} cannot be submitted: {reasons}{more}"


def _shown(text: str) -> str:
    return re.sub(r"//[^/?#]*@", "//…@", readable(text))  # a password must not end up on a screen


def _cut(text: str, longest: int = 100) -> str:
    return text if len(text) <= longest else text[:longest] + "…"


def readable(name: str) -> str:
    """A file's name fit to be shown and sent: names are bytes, and some of them are not UTF-8."""
    try:
        data = os.fsencode(name)
    except UnicodeEncodeError:  # a half of a surrogate pair, which no file's name has
        return one_clean_line(name)
    try:
        return one_clean_line(data.decode())
    except UnicodeDecodeError:
        return one_clean_line(data.decode("cp1252", "replace"))  # what such names mostly are


def upload_files(videos: Sequence[Video], client: Client, console: Console) -> list[str]:
    """The same videos as URLs: files are uploaded first and become `upload:<id>`."""
    files = [video.target for video in videos if isinstance(video.target, Path)]
    with bars(console, DownloadColumn()) as progress:
        row = progress.add_task("Uploading", total=sum(file.stat().st_size for file in files), visible=bool(files))

        def url_of(target: str | Path) -> str:
            if isinstance(target, str):
                return target
            called = readable(target.name)
            progress.update(row, description=f"Uploading {called}")
            return str(client.upload(target, lambda sent: progress.advance(row, sent), file_name=called)["url"])

        return [url_of(video.target) for video in videos]


def _files_below(folder: Path) -> list[Path]:
    """All files, at any depth, but nothing hidden; in the order of their names."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
