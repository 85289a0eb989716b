"""Where bytes live, behind one small interface: pictures, uploads, query pictures.

Blobs are written before the rows that name them, and a name is never used again, so a reader that has a name never
sees half a blob, and an orphan is harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

_ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


class BlobMissing(LookupError):
    """There is no blob of that name."""


class BlobEntry(NamedTuple):
    """A blob as a listing shows it. written_at: seconds since the epoch, by the store's clock."""

    name: str
    written_at: float
    size_bytes: int


class UnfinishedPut(NamedTuple):
    """A blob that somebody began to store and may never end.

    received_bytes: how much came so far, 0 when it has ended meanwhile. abandon: removes that; no error then either.
    """

    name: str
    begun_at: float
    received_bytes: Callable[[], int]
    abandon: Callable[[], None]


class BlobStore(Protocol):
    """Named bytes. A name is made of `/`-separated parts of letters, digits, `-`, `_` and `.`.

    Every call raises `TransientError` when the store cannot be reached or does not do what it is asked, and ValueError
    for what is no blob name.
    """

    def put(self, name: str, source: Path) -> None:
        """Store the file's bytes under a new name."""

    def put_all(self, sources: Mapping[str, Path]) -> None:
        """Store several small files, each under its new name. When it raises, some may have been stored."""

    def read(self, name: str) -> bytes:
        """All bytes of a small blob. Raises `BlobMissing`."""

    def read_all(self, names: Iterable[str]) -> Iterator[bytes]:
        """The bytes of small blobs, in the order of their names; a few are fetched ahead. Raises `BlobMissing`."""

    def open_file(self, name: str, folder: Path) -> AbstractContextManager[Path]:
        """A local file with the blob's bytes, for the length of a `with`. Raises `BlobMissing`.

        folder: where a store that has no files of its own puts it.
        """

    def delete(self, names: Iterable[str]) -> None:
        """Remove the blobs; no error for those that are not there. When it raises, some may be there still."""

    def entries(self, prefix: str) -> Iterator[BlobEntry]:
        """Every blob whose name starts with `prefix`, by name; what comes and goes meanwhile may be in it or not."""

    def unfinished(self) -> Iterator[UnfinishedPut]:
        """What was begun and not ended, where the store keeps that apart from its blobs."""

    def clock_ahead_s(self) -> float:
        """How far this machine's clock is ahead of the store's."""

    def link(self, name: str, expires_s: int, *, file_name: str | None = None) -> str | None:
        """An address at which a browser reads the blob for so long; None when this store has none to give.

        file_name: what it is saved as; without one, it is shown.
        """

    @property
    def link_origin(self) -> str | None:
        """Scheme, host and port of every link; None when this store gives none."""


def is_name(text: str) -> bool:
    """Whether a blob may have this name."""
    return all(part.strip(".") and _ALLOWED.issuperset(part) for part in text.split("/"))


def parts_of(name: str) -> list[str]:
    """The parts of a blob's name, none of which leads anywhere else. Raises ValueError for what is no blob name."""
    if not is_name(name):
        raise ValueError(f"{name!r} is not a blob name")
    return name.split("/")
