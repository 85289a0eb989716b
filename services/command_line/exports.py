"""`reelmap export`: a file of what was found, whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from rich.progress import DownloadColumn

from services.client import Client, Json
from services.command_line.options import connect, given, json_option, server_option
from services.command_line.output import bars, print_json, remarks, say, show
from shared import catalog
from shared.errors import ErrorKind, PermanentError
from shared.wording import count, size


@click.command()
@click.argument("job_id", metavar="JOB", required=False)
@click.option("--clustering", "clustering_id", metavar="ID", help="A clustering, a folder for each cluster.")
@click.option("--cluster", "cluster_id", metavar="ID", help="One cluster.")
@click.option("--key-frame", "key_frame_id", metavar="ID", help="What is nearest to a key frame, in JOB or in all.")
@click.option("--picture", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The same to a picture.")
@click.option("--model", help="Of a search; one that there are vectors of when left out.")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), help="Of a search: how many, the nearest first.  [default: 50]"
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(sorted(catalog.formats())),
    help="zip: the pictures and a table of them; jsonl: a line for each, for programs.  [default: what FILE of -o ends "
    f"in, else {catalog.DEFAULT_FORMAT}]",
)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="File or folder.  [default: a name of its own, here]"
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@server_option
@json_option
def export(
    job_id: str | None,
    clustering_id: str | None,
    cluster_id: str | None,
    key_frame_id: str | None,
    picture: Path | None,
    model: str | None,
    limit: int | None,
    format_: str | None,
    out: Path | None,
    force: bool,
    server: str,
    as_json: bool,
) -> None:
    """Save key frames as a file: those of a JOB, a clustering, a cluster, or what a search finds.

    The file appears when all of it is there.
    """
    client = connect(server)
    is_search = key_frame_id is not None or picture is not None
    named = [each for each in (None if is_search else job_id, clustering_id, cluster_id, key_frame_id, picture) if each]
    if len(named) != 1:
        raise click.UsageError("Say what to export: a JOB, or one of --clustering, --cluster, --key-frame, --picture.")
    if not is_search and (model or limit):
        raise click.UsageError("--model and --limit belong to a search, that is to --key-frame or --picture.")
    subject = given(job_id=job_id, clustering_id=clustering_id, cluster_id=cluster_id)
    if is_search:
        subject = {"search": _search(client, job_id, key_frame_id, picture, model, limit)}
    asked = client.export(subject, format_ or _format_of(out))
    path = _target(out, asked["file_name"], force)
    done = _followed(client.follow_export(asked["id"]))
    if done["state"] != "succeeded":
        raise PermanentError(ErrorKind(done["error"]["kind"]), done["error"]["message"])
    _save(client, done, path, force)
    if as_json:
        print_json({**done, "file": str(path)})
    else:
        show(str(path))
        say(f"{count(done['key_frames'], 'key frame')}, {size(done['size_bytes'])}")


def _search(
    client: Client,
    job_id: str | None,
    key_frame_id: str | None,
    picture: Path | None,
    model: str | None,
    limit: int | None,
) -> dict[str, Any]:
    jobs = [job_id] if job_id else []
    search = given(jobs=jobs or None, limit=limit)
    if picture is None:
        return {**search, **given(key_frame_id=key_frame_id, model=model)}
    found = client.search(jobs, picture=picture, model=model, limit=1)
    return {**search, "query_id": found["query"]["query_id"]}


def _format_of(out: Path | None) -> str:
    """What the name of the file asks for."""
    suffix = out.suffix.lower() if out else ""
    return next((name for name in catalog.formats() if suffix == f".{name}"), catalog.DEFAULT_FORMAT)


def _target(out: Path | None, name: str, force: bool) -> Path:
    """Where the file is to be, looked at before anything is written."""
    if out == Path("-"):
        raise click.UsageError("A file is saved, whole or not at all, so it cannot go into a pipe.")
    path = Path(name) if out is None else out / name if out.is_dir() else out
    if not path.parent.is_dir():
        raise click.UsageError(f"There is no folder {path.parent}.")
    if path.is_dir() or (path.exists() and not force):
        raise click.UsageError(f"{path} is there already; name another file with -o, or say --force.")
    return path


def _followed(versions: Iterable[Json]) -> Json:
    """The export as it ended; how far it is is shown meanwhile."""
    with bars(remarks()) as progress:
        row = progress.add_task("Writing", total=None)
        for version in versions:
            progress.update(row, completed=version["written"], total=version["key_frames"])
    return version


def _save(client: Client, export: Json, path: Path, force: bool) -> None:
    """Receive the file beside `path` and give it its name when it is whole and on the disk."""
    handle, beside = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as writer, bars(remarks(), DownloadColumn()) as progress:
            row = progress.add_task("Receiving", total=export["size_bytes"])
            client.download(export, writer, lambda size_bytes: progress.advance(row, size_bytes))
            writer.flush()
            os.fsync(writer.fileno())
            os.fchmod(writer.fileno(), 0o666 & ~_umask())
        _target(path, path.name, force)  # a file may have come meanwhile
        os.replace(beside, path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
