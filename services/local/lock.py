"""Who holds a folder: an advisory lock that the kernel gives back however its holder ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from shared.errors import ErrorKind, PermanentError

#: The file in a folder that is locked.
LOCK = "lock"


class InUse(PermanentError):
    """Somebody else holds the folder."""


class FolderLock:
    """An exclusive lock on `folder`, held until closed here and in every child that inherited `fd`.

    holder: what holds it, for the error. wait_s: how long to wait for it.
    Raises `InUse` naming the process that took the lock, and PermanentError for a folder that cannot be written.
    """

    def __init__(self, folder: Path, holder: str, *, wait_s: float = 0.0) -> None:
        try:
            self.fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise PermanentError(
                ErrorKind.STORE_UNAVAILABLE,
                f"{folder} cannot be written by this user ({error.strerror}). Run this as the user whose folder it is, "
                "or make it writable.",
            ) from None
        until = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    pid = os.pread(self.fd, 32, 0).decode().strip() or "unknown"
                    os.close(self.fd)
                    raise InUse(
                        ErrorKind.STORE_UNAVAILABLE,
                        f"{folder} is in use by {holder} (started by process {pid}). Stop that one first, or use "
                        "another data folder.",
                    ) from None
                time.sleep(0.02)
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, b"%d\n" % os.getpid(), 0)

    def close(self) -> None:
        """Give our hold back. Children that inherited `fd` keep theirs."""
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
