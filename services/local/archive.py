"""The file that a backup is: a tar whose last member holds the SHA-256 of all others.

Not compressed as a whole: pictures and videos are already, and so is the dump of the database. Written from front to
back in bounded memory; read the same way, each member checked as it goes by. With `tar` and `sha256sum -c SHA256SUMS`
a person can look into it without Reelmap.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO

from shared.errors import ErrorKind, PermanentError

SUMS = "SHA256SUMS"
CHUNK_BYTES = 1024 * 1024


class ArchiveWriter:
    """Adds members one after the other; see `new_archive`."""

    def __init__(self, tar: tarfile.TarFile, sums: IO[bytes], progress: Callable[[int], None]) -> None:
        self._tar = tar
        self._sums = sums
        self._progress = progress

    def add_bytes(self, name: str, content: bytes) -> None:
        """A small member."""
        self._add(name, BytesIO(content), len(content), written_at=0)

    def add_file(self, name: str, path: Path) -> int:
        """The file's bytes; returns how many. Raises FileNotFoundError when it is gone."""
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            self._add(name, file, status.st_size, written_at=int(status.st_mtime))
        return status.st_size

    def _add(self, name: str, content: IO[bytes], size_bytes: int, *, written_at: int) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mtime, info.mode = size_bytes, written_at, 0o600
        reader = _Hashing(content, self._progress)
        self._tar.addfile(info, reader)
        self._sums.write(_sum_line(reader.hexdigest(), name))

    def finish(self) -> None:
        """Write the last member."""
        info = tarfile.TarInfo(SUMS)
        info.size, info.mode = self._sums.tell(), 0o600
        self._sums.seek(0)
        self._tar.addfile(info, self._sums)


@contextmanager
def new_archive(file: Path, progress: Callable[[int], None] = lambda size_bytes: None) -> Iterator[ArchiveWriter]:
    """Write an archive into a new file, readable by us alone; after the block it is whole and on the disk.

    progress: called with numbers of bytes as they are added.
    """
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(handle, "wb") as raw, tempfile.TemporaryFile() as sums:
            with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
                writer = ArchiveWriter(tar, sums, progress)
                yield writer
                writer.finish()
            raw.flush()
            os.fsync(raw.fileno())
    except BaseException:
        file.unlink()
        raise


def read_archive(
    file: Path, progress: Callable[[int], None] = lambda size_bytes: None
) -> Iterator[tuple[str, IO[bytes]]]:
    """Each member's name and bytes, to be read before the next one is asked for.

    Whoever goes through to the end knows that all of it is as it was written. Raises PermanentError as soon as it is
    known that it is not.
    """
    with file.open("rb") as raw, tempfile.TemporaryFile() as sums:
        try:
            with tarfile.open(fileobj=raw, mode="r|") as tar:
                for info in tar:
                    content = tar.extractfile(info) if info.isreg() else None
                    if content is None:
                        raise damaged(file, f"{info.name} is no plain file")
                    if info.name == SUMS:
                        _compare(file, sums, content)
                        _refuse_what_follows(file, info.offset_data + info.size)
                        return
                    reader = _Hashing(content, progress, file)
                    yield info.name, reader  # type: ignore[misc]  # it only reads
                    while reader.read(CHUNK_BYTES):
                        pass
                    sums.write(_sum_line(reader.hexdigest(), info.name))
        except (tarfile.TarError, EOFError) as error:
            raise damaged(file, str(error)) from error
    raise damaged(file, "its end is missing")


def _refuse_what_follows(file: Path, end: int) -> None:
    """Behind the last member a tar has zeros only; what else is there was not written by us, and nobody checks it."""
    with file.open("rb") as raw:
        raw.seek(end)
        while block := raw.read(CHUNK_BYTES):
            if block.strip(b"\0"):
                raise damaged(file, "something was added behind its end")


class _Hashing:
    """Reads from a file, and knows the SHA-256 of what was read. archive: of which the file is a member."""

    def __init__(self, file: IO[bytes], progress: Callable[[int], None], archive: Path | None = None) -> None:
        self._file = file
        self._archive = archive
        self._sum = hashlib.sha256()
        self._progress = progress

    def read(self, size: int = -1) -> bytes:
        try:
            data = self._file.read(size)
        except tarfile.TarError as error:
            assert self._archive is not None
            raise damaged(self._archive, str(error)) from error
        self._sum.update(data)
        self._progress(len(data))
        return data

    def hexdigest(self) -> str:
        return self._sum.hexdigest()


def _compare(file: Path, ours: IO[bytes], theirs: IO[bytes]) -> None:
    ours.seek(0)
    for line in theirs:
        mine = ours.readline()
        if line != mine:
            raise damaged(file, f"{line.split(b'  ', 1)[-1].decode(errors='replace').strip()} is not what was written")
    if ours.readline():
        raise damaged(file, "it has more in it than was written")


def _sum_line(hexdigest: str, name: str) -> bytes:
    return f"{hexdigest}  {name}\n".encode()


def damaged(file: Path, why: str) -> PermanentError:
    """The error for a file that is not as it was written. why: in words that follow a colon."""
    return PermanentError(
        ErrorKind.DAMAGED, f"{file} is not a whole backup of Reelmap: {why}. Take another copy of it."
    )
