"""Blobs as files below a folder that every process sees."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from shared import failpoints
from shared.blobs import BlobEntry, BlobMissing, UnfinishedPut, is_name, parts_of
from shared.errors import ErrorKind, TransientError


class FolderBlobs:
    """A blob store in `folder`."""

    link_origin = None

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Where the blob of that name lies, or would."""
        return self.folder.joinpath(*parts_of(name))

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

    def put_all(self, sources: Mapping[str, Path]) -> None:
        for name, source in sources.items():
            self.put(name, source)

    def read(self, name: str) -> bytes:
        try:
            return self.path(name).read_bytes()
        except FileNotFoundError:
            raise BlobMissing(name) from None
        except OSError as error:
            raise TransientError(
                ErrorKind.STORE_UNAVAILABLE, f"the picture store could not give {name}: {error.strerror or error}"
            ) from error

    def read_all(self, names: Iterable[str]) -> Iterator[bytes]:
        return map(self.read, names)

    @contextmanager
    def open_file(self, name: str, folder: Path) -> Iterator[Path]:
        path = self.path(name)
        if not path.is_file():
            raise BlobMissing(name)
        yield path

    def delete(self, names: Iterable[str]) -> None:
        failed: OSError | None = None
        for name in names:
            try:
                self._delete(name)
            except OSError as error:
                failed = error
        if failed is not None:
            raise TransientError(
                ErrorKind.STORE_UNAVAILABLE,
                f"the picture store could not remove {failed.filename}: {failed.strerror or failed}",
            ) from failed

    def _delete(self, name: str) -> None:
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
        # Only where names with this prefix can be.
        folder = prefix.rpartition("/")[0]
        for entry in self._walk(self.folder / folder, f"{folder}/" if folder else ""):
            if entry.name.startswith(prefix) and is_name(entry.name):
                yield entry

    def _walk(self, folder: Path, above: str) -> Iterator[BlobEntry]:
        try:
            with os.scandir(folder) as found:
                inside = [entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name for entry in found]
        except FileNotFoundError:
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

    def clock_ahead_s(self) -> float:
        return 0.0  # near enough, also on a disk that several machines share

    def link(self, name: str, expires_s: int, *, file_name: str | None = None) -> None:
        return None
