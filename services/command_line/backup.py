"""`reelmap backup` and `reelmap restore`: one data folder to one file and back."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.progress import DownloadColumn

from services.command_line.options import folder_option, json_option
from services.command_line.output import bars, print_json, remarks, show
from shared.wording import count, size

if TYPE_CHECKING:
    from services.local.backup import Contents


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@folder_option
@json_option
def backup(file: Path, folder: Path, as_json: bool) -> None:
    """Write all that is in a data folder into one FILE, whether its Reelmap runs or not.

    In it are pictures, vectors, keys: keep it as safe as the folder itself.
    """
    from services.local import backup as local

    folder = folder.expanduser()
    began_at = time.monotonic()
    with bars(remarks(), DownloadColumn()) as progress:
        row = progress.add_task("Backing up", total=local.blobs_bytes(folder))
        contents = local.backup(folder, file, lambda size_bytes: progress.advance(row, size_bytes))
    what = f"Backed up {_described(contents)} into {file} ({size(contents.archive_bytes)})"
    _report(what, file, folder, contents, began_at, as_json=as_json)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@folder_option
@json_option
def restore(file: Path, folder: Path, as_json: bool) -> None:
    """Make a data folder of a backup FILE; `reelmap up` then goes on where it stood.

    Only of a file that you trust: the dump in it can do whatever the database's user can.
    """
    from services.local import backup as local

    folder = folder.expanduser()
    began_at = time.monotonic()
    with bars(remarks(), DownloadColumn()) as progress:
        row = progress.add_task("Restoring", total=file.stat().st_size)
        contents = local.restore(file, folder, lambda size_bytes: progress.advance(row, size_bytes))
    what = f"Restored {_described(contents)} into {folder}"
    _report(what, file, folder, contents, began_at, as_json=as_json)


def _described(contents: Contents) -> str:
    files, rows = size(contents.blobs_bytes), size(contents.database_bytes)
    return f"{count(contents.blobs, 'file')} ({files}) and the database ({rows} packed)"


def _report(what: str, file: Path, folder: Path, contents: Contents, began_at: float, *, as_json: bool) -> None:
    took_s = time.monotonic() - began_at
    if as_json:
        print_json({"file": str(file), "folder": str(folder), **asdict(contents), "took_s": round(took_s, 3)})
    else:
        show(f"{what} in {took_s:.0f} s.")
