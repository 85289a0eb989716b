"""Takes files and query pictures in: to disk while they are read, then to the blob store, then into a row."""

from __future__ import annotations

import hashlib
import logging
import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sqlalchemy import Connection, insert
from werkzeug.exceptions import BadRequest

from services.api.form_files import exhaustion_as_transient
from services.api.problems import TooLarge, invalid
from services.api.schemas.answers import Upload
from shared.blobs import BlobStore
from shared.clean_text import one_clean_line
from shared.db import is_unavailable
from shared.errors import TransientError
from shared.tables import uploads
from shared.urls import UPLOAD_SCHEME
from shared.work_folders import work_folder

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 1024 * 1024
_MAX_FILE_NAME = 200


@dataclass(frozen=True)
class Received:
    """A file that came in whole."""

    path: Path
    size_bytes: int
    sha256: str


@contextmanager
def received(
    stream: IO[bytes], *, max_bytes: int, folder: Path, announced_bytes: int | None = None
) -> Iterator[Received]:
    """What `stream` gives, in a file that lives as long as the `with`.

    announced_bytes: how long the client said the file is. Raises `TooLarge` as soon as it is too much,
    `BadRequest` when it ends early (the server hands a connection that broke on as the end of the body), and
    `TransientError` when the disk is full.
    """
    digest = hashlib.sha256()
    size_bytes = 0
    with exhaustion_as_transient(), work_folder(folder) as own:
        path = own / "file"
        with path.open("wb") as file:
            while chunk := stream.read(_CHUNK_BYTES):
                size_bytes += len(chunk)
                if size_bytes > max_bytes:
                    raise _too_large(max_bytes)
                digest.update(chunk)
                file.write(chunk)
        if announced_bytes is not None and size_bytes != announced_bytes:
            raise BadRequest(f"The connection ended after {size_bytes} of {announced_bytes} bytes.")
        yield Received(path, size_bytes, digest.hexdigest())


def check_size(size_bytes: int, max_bytes: int) -> None:
    """Raise `Invalid` for an empty file, `TooLarge` for one that is larger than is taken here."""
    if not size_bytes:
        invalid("file", "the file is empty")
    if size_bytes > max_bytes:
        raise _too_large(max_bytes)


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"The file is larger than {max_bytes} bytes, which is the most that is taken here.")


def new_upload_id() -> str:
    """The id of an upload to be, so that a job that names it can be checked before anything is stored."""
    return str(uuid.uuid4())


@contextmanager
def stored(blobs: BlobStore, names: Sequence[str]) -> Iterator[None]:
    """Around what puts these blobs and writes the rows that name them: removes them when that is refused or fails.

    Not when the database went away in the end: then the rows may be there. Nor is the error hidden by one of the
    store's; what stays behind is an orphan, and orphans are collected.
    """
    try:
        yield
    except Exception as error:
        if not is_unavailable(error):
            try:
                blobs.delete(names)
            except TransientError as failure:
                logger.warning("could not remove what was stored in vain: %s", failure)
        raise


def store_upload(blobs: BlobStore, upload_id: str, file: Received) -> str:
    """Put the bytes into the blob store, before the row that names them. Returns the blob's name."""
    blob = blob_of(upload_id)
    blobs.put(blob, file.path)
    return blob


def blob_of(upload_id: str) -> str:
    """Where the bytes of an upload lie."""
    return f"uploads/{upload_id}"


def add_upload(
    connection: Connection, project_id: str, upload_id: str, file: Received, blob: str, file_name: str
) -> Upload:
    """Write the row of an upload."""
    file_name = safe_file_name(file_name)
    connection.execute(
        insert(uploads).values(
            id=upload_id,
            project_id=project_id,
            file_name=file_name,
            size_bytes=file.size_bytes,
            sha256=file.sha256,
            blob=blob,
        )
    )
    return Upload(
        id=upload_id,
        url=f"{UPLOAD_SCHEME}:{upload_id}",
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        file_name=file_name,
    )


def safe_file_name(given: str) -> str:
    """The last part of a path as a client may send it, without what could harm a page, a log or a shell's user."""
    last = re.split(r"[/\\]", given)[-1]
    return one_clean_line(last).strip(" .")[-_MAX_FILE_NAME:].lstrip() or "upload"
