"""What every download has in common: counted, hashed and held to its limits while it is written, watched meanwhile."""

from __future__ import annotations

import errno
import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Literal, TypeVar

from services.keyframes.fetching.limits import FetchLimits
from shared.errors import ErrorKind, PermanentError, TransientError

T = TypeVar("T")

_CHECK_EVERY_S = 0.5
#: How long a transfer that was stopped may take to notice, before it is left to end by itself.
_STOP_S = 2.0


def watched(
    run: Callable[[], T], *, url: str, limits: FetchLimits, check: Callable[[], None], stop: Callable[[], None]
) -> T:
    """What `run` returns or raises, from a thread of its own: nothing else holds a total time limit.

    check: called about twice a second; what it raises ends the wait and is raised here. stop: makes `run` end soon.
    """
    outcome: Future[T] = Future()
    thread = threading.Thread(target=_settle, args=(outcome, run), name="download", daemon=True)
    end_s = time.monotonic() + limits.total_timeout_s
    thread.start()
    try:
        while not wait([outcome], timeout=_CHECK_EVERY_S).done:
            check()
            if time.monotonic() > end_s:
                raise PermanentError(
                    ErrorKind.DEADLINE,
                    f"{url}: the download took longer than {limits.total_timeout_s:g} s, the most it may take; "
                    "upload the file, or have the limit raised.",
                )
    except BaseException:
        stop()
        # Returns at once unless it sits in the resolver or in connecting; it then ends later, without a file open.
        thread.join(timeout=_STOP_S)
        raise
    return outcome.result()


def _settle(outcome: Future[T], run: Callable[[], T]) -> None:
    try:
        outcome.set_result(run())
    except BaseException as error:  # handed to the thread that waits
        outcome.set_exception(error)


class Receiver:
    """Takes in the bytes behind one URL.

    size_bytes: how many came so far.
    """

    def __init__(self, url: str, path: Path, limits: FetchLimits) -> None:
        self._url = url
        self._path = path
        self._limits = limits
        self._hashed = hashlib.sha256()
        self._file: FileIO | None = None
        self._mode: Literal["xb", "ab"] = "xb"  # a name that nobody has used, and then on where it ended
        self.size_bytes = 0

    @property
    def sha256(self) -> str:
        """Of the bytes that came so far, in hex."""
        return self._hashed.hexdigest()

    def expect(self, announced_bytes: int | None) -> None:
        """Raise when so many bytes are too many, or when there is no room for them. None: nobody says how many."""
        self._check_size(announced_bytes or 0)
        needed_bytes = 2 * self._limits.max_bytes if announced_bytes is None else announced_bytes
        free_bytes = shutil.disk_usage(self._path.parent).free
        if free_bytes < needed_bytes:
            raise TransientError(
                ErrorKind.DISK_FULL,
                f"{self._url}: the worker's disk has {free_bytes:,} bytes free and {needed_bytes:,} may be "
                "needed; free some, or give the worker a larger temporary folder.",
            )

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Around everything that is written: into a new file, and into the same one when it is opened again."""
        with self._disk_errors():
            file = self._path.open(self._mode, buffering=0)
        self._mode = "ab"
        with file:
            self._file = file
            yield

    def write(self, block: bytes) -> None:
        """Take in some more, unless it becomes too much."""
        assert self._file is not None
        self.size_bytes += len(block)
        self._check_size(self.size_bytes)
        self._hashed.update(block)
        with self._disk_errors():
            # A nearly full disk takes a part of it first and fails on the next call.
            rest = memoryview(block)
            while rest:
                rest = rest[self._file.write(rest) :]

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._limits.max_bytes:
            raise PermanentError(
                ErrorKind.TOO_LARGE,
                f"{self._url}: the file is larger than {self._limits.max_bytes:,} bytes, the most a video may "
                "have; submit a smaller version of it, or have the limit raised.",
            )

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """Tell the disk's errors from the network's: both are OSErrors."""
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            raise TransientError(
                ErrorKind.DISK_FULL if full else ErrorKind.STORE_UNAVAILABLE,
                f"{self._url}: the file could not be written on the worker ({error.strerror}).",
            ) from error
