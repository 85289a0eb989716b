"""Takes files and query pictures in: to disk while they are read, then to the blob store, then into a row."""

from __future__ import annotations

import hashlib
import re
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sqlalchemy import Connection, insert
from werkzeug.exceptions import BadRequest

from services.api.form_files import full_disk_told
from services.api.problems import TooLarge, invalid
from services.api.schemas import Upload
from shared.blobs import BlobStore
from shared.clean_text import one_clean_line
from shared.tables import uploads
from shared.urls import UPLOAD_SCHEME
from shared.work_folders import work_folder

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
    stream: IO[bytes], *, max_bytes: int, folder: Path | None, announced_bytes: int | None = None
) -> Iterator[Received]:
    """What `stream` gives, in a file that lives as long as the `with`.

    announced_bytes: how long the client said the file is. Raises `TooLarge` as soon as it is too much,
    `BadRequest` when it ends early (the server hands a connection that broke on as the end of the body), and
    `TransientError` when the disk is full.
    """
    digest = hashlib.sha256()
    size_bytes = 0
    with full_disk_told(), work_folder(folder or Path(tempfile.gettempdir())) as own:
        path = own / "file"
        with path.open("wb") as file:
            while chunk := stream.read(_CHUNK_BYTES):
                size_bytes += len(chunk)
                if size_bytes > max_bytes:
                    raise TooLarge(f"The file is larger than {max_bytes} bytes, which is the most that is taken here.")
                digest.update(chunk)
                file.write(chunk)
        if announced_bytes is not None and size_bytes != announced_bytes:
            raise BadRequest(f"The connection ended after {size_bytes} of {announced_bytes} bytes.")
        yield Received(path, size_bytes, digest.hexdigest())


def store_upload(blobs: BlobStore, file: Received) -> str:
    """Put the bytes into the blob store, before the row that names them. Returns the blob's name."""
    if not file.size_bytes:
        invalid("file", "the file is empty")
    blob = f"uploads/{uuid.uuid4()}"
    blobs.put(blob, file.path)
    return blob


def add_upload(connection: Connection, project_id: str, file: Received, blob: str, file_name: str) -> Upload:
    """Write the row of an upload."""
    file_name = safe_file_name(file_name)
    upload_id: str = connection.execute(
        insert(uploads)
        .values(project_id=project_id, file_name=file_name, size_bytes=file.size_bytes, sha256=file.sha256, blob=blob)
        .returning(uploads.c.id)
    ).scalar_one()
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
