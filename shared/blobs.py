"""Where bytes live, behind one small interface: pictures, uploads, query pictures.

Blobs are written before the rows that name them, and a name is never used again, so a reader that has a name never
sees half a blob, and an orphan is harmless.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from shared import failpoints
from shared.errors import ErrorKind, TransientError


class BlobMissing(LookupError):
    """There is no blob of that name."""


class BlobStore(Protocol):
    """Named bytes. A name is made of `/`-separated parts of letters, digits, `-`, `_` and `.`."""

    def put(self, name: str, source: Path) -> None:
        """Store the file's bytes under a new name. Raises `TransientError` when the store cannot take them."""

    def read(self, name: str) -> bytes:
        """All bytes of a small blob. Raises `BlobMissing`."""

    @contextmanager
    def open_file(self, name: str) -> Iterator[Path]:
        """A local file with the blob's bytes, for the length of a `with`. Raises `BlobMissing`."""

    def delete(self, name: str) -> None:
        """Remove the blob; no error when it is not there."""

    def names(self, prefix: str) -> Iterator[tuple[str, float]]:
        """(name, seconds since the epoch when it was written) of every blob whose name starts with `prefix`."""


class FolderBlobs:
    """Blobs as files below a folder that every process sees."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Where the blob of that name lies, or would. Raises ValueError for what is no blob name."""
        parts = name.split("/")
        allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
        if not all(part.strip(".") and set(part) <= allowed for part in parts):
            raise ValueError(f"{name!r} is not a blob name")
        return self.folder.joinpath(*parts)

    def put(self, name: str, source: Path) -> None:
        path = self.path(name)
        try:
            failpoints.reach("blobs.put", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            with source.open("rb") as reader, tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as writer:
                try:
                    shutil.copyfileobj(reader, writer)
                    writer.flush()
                    # What a committed row names must survive a power cut.
                    os.fsync(writer.fileno())
                    os.replace(writer.name, path)
                except BaseException:
                    Path(writer.name).unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise TransientError(
                ErrorKind.STORE_UNAVAILABLE, f"the picture store could not take {name}: {error.strerror or error}"
            ) from error

    def read(self, name: str) -> bytes:
        try:
            return self.path(name).read_bytes()
        except FileNotFoundError:
            raise BlobMissing(name) from None

    @contextmanager
    def open_file(self, name: str) -> Iterator[Path]:
        path = self.path(name)
        if not path.is_file():
            raise BlobMissing(name)
        yield path

    def delete(self, name: str) -> None:
        path = self.path(name)
        path.unlink(missing_ok=True)
        # Leave no empty folder behind, but keep the top ones: another process may be about to write into them.
        for parent in path.parents[:-1]:
            if self.folder in (parent, parent.parent):
                break
            try:
                parent.rmdir()
            except OSError:
                break

    def names(self, prefix: str) -> Iterator[tuple[str, float]]:
        for folder, _, files in os.walk(self.folder):
            for file in files:
                path = Path(folder, file)
                name = path.relative_to(self.folder).as_posix()
                if name.startswith(prefix):
                    try:
                        yield name, path.stat().st_mtime
                    except FileNotFoundError:
                        continue
