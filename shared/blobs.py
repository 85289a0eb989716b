"""Where bytes live, behind one small interface: pictures, uploads, query pictures.

Blobs are written before the rows that name them, and a name is never used again, so a reader that has a name never
sees half a blob, and an orphan is harmless.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from shared import failpoints
from shared.errors import ErrorKind, TransientError


class BlobMissing(LookupError):
    """There is no blob of that name."""


class BlobEntry(NamedTuple):
    """A blob as a listing shows it. written_at: seconds since the epoch, by the store's clock."""

    name: str
    written_at: float
    size_bytes: int


class UnfinishedPut(NamedTuple):
    """A blob that somebody began to store and may never end.

    size_bytes: what came so far. abandon: removes that; no error when it has ended meanwhile.
    """

    name: str
    begun_at: float
    size_bytes: int
    abandon: Callable[[], None]


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

    def entries(self, prefix: str) -> Iterator[BlobEntry]:
        """Every blob whose name starts with `prefix`, by name; what comes and goes meanwhile may be in it or not."""

    def unfinished(self) -> Iterator[UnfinishedPut]:
        """What was begun and not ended, where the store keeps that apart from its blobs."""


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

    def entries(self, prefix: str) -> Iterator[BlobEntry]:
        # Only the folder that the prefix names is walked, not all of the store.
        folder = prefix.rpartition("/")[0]
        for entry in self._walk(self.folder / folder, f"{folder}/" if folder else ""):
            if entry.name.startswith(prefix):
                yield entry

    def _walk(self, folder: Path, above: str) -> Iterator[BlobEntry]:
        try:
            with os.scandir(folder) as found:
                inside = {entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name for entry in found}
        except (FileNotFoundError, NotADirectoryError):
            return
        # Folders with their slash, so that the order is that of whole names.
        for name in sorted(inside):
            if name.endswith("/"):
                yield from self._walk(folder / name, above + name)
                continue
            try:
                status = os.stat(folder / name)
            except FileNotFoundError:
                continue
            yield BlobEntry(above + name, status.st_mtime, status.st_size)

    def unfinished(self) -> Iterator[UnfinishedPut]:
        # The file of a put that was killed lies among the blobs, under a name that no row has.
        return iter(())
