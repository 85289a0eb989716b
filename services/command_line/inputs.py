"""Turns what a person named on the command line (URLs, files, folders, lists) into URLs that the API takes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.progress import DownloadColumn

from services.client import Client
from services.command_line.output import bars
from shared.media_types import is_video_name

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|upload:")
_NAMED = 5


@dataclass(frozen=True)
class Inputs:
    """What was named, each once, in order: URLs as text, files as paths.

    skipped: files of folders that are no videos by their names.
    """

    videos: tuple[str | Path, ...]
    skipped: tuple[Path, ...]


def find_inputs(names: Sequence[str]) -> Inputs:
    """Look every name up. Raises `click.UsageError` for one that is no URL, file or folder."""
    videos: list[str | Path] = []
    skipped: list[Path] = []
    for name in names:
        path = Path(name)
        if _URL.match(name):
            videos.append(name)
        elif path.is_dir():
            for file in _files_below(path):
                (videos if is_video_name(file.name) else skipped).append(file)
        elif path.is_file():
            videos.append(path)
        else:
            raise click.UsageError(f"{name!r} is neither a URL (https://…, s3://…) nor a file or folder that is there.")
    return Inputs(tuple(dict.fromkeys(videos)), tuple(skipped))


def read_list(lines: Iterable[str]) -> list[str]:
    """The names in a list file: one a line; empty lines and those that begin with # do not count."""
    stripped = (line.strip() for line in lines)
    return [line for line in stripped if line and not line.startswith("#")]


def describe_skipped(skipped: Sequence[Path]) -> str:
    """One line that says which files of folders were left out."""
    named = ", ".join(str(path) for path in skipped[:_NAMED]) + (", …" if len(skipped) > _NAMED else "")
    return f"Left out {len(skipped)} files that are not videos by their names: {named}"


def upload_files(videos: Sequence[str | Path], client: Client, console: Console) -> list[str]:
    """The same videos as URLs: files are uploaded first and become `upload:<id>`."""
    files = [video for video in videos if isinstance(video, Path)]
    with bars(console, DownloadColumn()) as progress:
        row = progress.add_task("Uploading", total=sum(file.stat().st_size for file in files), visible=bool(files))

        def url_of(video: str | Path) -> str:
            if isinstance(video, str):
                return video
            progress.update(row, description=f"Uploading {video.name}")
            return str(client.upload(video, lambda size_bytes: progress.advance(row, size_bytes))["url"])

        return [url_of(video) for video in videos]


def _files_below(folder: Path) -> list[Path]:
    """All files, at any depth, but nothing hidden; in the order of their names."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
