"""The files of a form, on their way through: all of one request in one place, small ones in memory."""

from __future__ import annotations

import errno
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import ErrorKind, TransientError

#: What a form may hold around the file that it brings.
FORM_MARGIN_BYTES = 64 * 1024
#: What is kept in memory of all files of a form together; beyond that they lie in one file of the work folder.
MEMORY_BYTES = 512 * 1024

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: What a server can run out of -> in whose words it is told. All of it passes.
_EXHAUSTED = {
    errno.ENOSPC: "there is no room for the file on the server's disk",
    errno.EDQUOT: "there is no room for the file on the server's disk",
    errno.EMFILE: "the server has as many files and connections open as it may",
    errno.ENFILE: "the server has as many files and connections open as it may",
    errno.ENOMEM: "the server has no memory left",
}


class FormFiles:
    """Files one behind the other, in memory or in one file without a name: nothing is left of it when it is closed or
    the process is killed, and a thousand files cost one descriptor.

    folder: where to put what does not fit into memory. Raises `TransientError` when there is no room for it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.spool = tempfile.SpooledTemporaryFile(  # noqa: SIM115  # closed by `close`
            max_size=MEMORY_BYTES, dir=str(folder)
        )
        self.size_bytes = 0

    def add(self) -> FormFile:
        """A further file, empty. Only the last one may be written to."""
        return FormFile(self)

    def append(self, content: Any) -> int:
        """Put bytes behind what is there. Returns how many."""
        with exhaustion_as_transient():
            self.spool.seek(self.size_bytes)
            self.spool.write(content)
        self.size_bytes += len(content)
        return len(content)

    def read(self, start: int, size_bytes: int) -> bytes:
        """What lies there; less at the end."""
        with exhaustion_as_transient():
            self.spool.seek(start)  # what is still in a buffer is written before
            return self.spool.read(size_bytes)

    def close(self) -> None:
        """Forget all of it."""
        # What does not fit is thrown away with the rest.
        with suppress(OSError):
            self.spool.close()


class FormFile(io.RawIOBase):
    """One of the files, as a stream. size_bytes: how long it is by now."""

    def __init__(self, files: FormFiles) -> None:
        self._files = files
        self._start = files.size_bytes
        self._position = 0
        self.size_bytes = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        written = self._files.append(content)
        self.size_bytes += written
        self._position = self.size_bytes
        return written

    def readinto(self, buffer: WriteableBuffer) -> int:
        into = memoryview(buffer)
        content = self._files.read(self._start + self._position, min(len(into), self.size_bytes - self._position))
        into[: len(content)] = content
        self._position += len(content)
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size_bytes}[whence]
        self._position = min(max(base + offset, 0), self.size_bytes)
        return self._position

    def tell(self) -> int:
        return self._position


def exhaustion(error: OSError) -> TransientError | None:
    """The system's error in words, where it means that something ran out; None for all others."""
    reason = _EXHAUSTED.get(error.errno or 0)
    return TransientError(ErrorKind.DISK_FULL, reason) if reason else None


@contextmanager
def exhaustion_as_transient() -> Iterator[None]:
    """Raise `TransientError` in place of the system's error when the disk is full, or nothing can be opened."""
    try:
        yield
    except OSError as error:
        if (exhausted := exhaustion(error)) is None:
            raise
        raise exhausted from error
