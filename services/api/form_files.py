"""Files inside forms, on their way through: small ones in memory, others in the work folder."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import ErrorKind, TransientError

#: What is kept in memory of one file.
MEMORY_BYTES = 512 * 1024

if TYPE_CHECKING:
    _Spooled = tempfile.SpooledTemporaryFile[bytes]
else:
    _Spooled = tempfile.SpooledTemporaryFile


class FormFile(_Spooled):
    """A file without a name, so that nothing is left of it when it is closed or the process is killed.

    Raises `TransientError` when there is no room for it.
    """

    def __init__(self, folder: Path | None) -> None:
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
        super().__init__(max_size=MEMORY_BYTES, dir=str(folder) if folder else None)

    def write(self, content: Any) -> int:
        with full_disk_told():
            return super().write(content)

    def seek(self, *position: int) -> int:
        # What is still in a buffer is written before.
        with full_disk_told():
            return super().seek(*position)

    def close(self) -> None:
        # What does not fit is thrown away with the rest.
        with suppress(OSError):
            super().close()


@contextmanager
def full_disk_told() -> Iterator[None]:
    """Raise `TransientError` in place of the system's error when the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise TransientError(ErrorKind.DISK_FULL, "there is no room for the file on the server's disk") from error
