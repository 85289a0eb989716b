"""A ZIP with the pictures, in a folder for each cluster, and a CSV table of what they are."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from typing import IO

from services.exports import csv_lines
from services.exports.rows import COLUMNS, Row

TITLE = "ZIP: the pictures, and a table (CSV) of what they are"
MEDIA_TYPE = "application/zip"
SUFFIX = ".zip"
NEEDS_PICTURES = True
#: A line of the index stays in memory for each picture, some 770 bytes, and a worker has 512 MiB.
MOST_KEY_FRAMES = 300_000

TABLE = "key_frames.csv"
#: The table comes last and waits here until then; more of it goes to the disk.
TABLE_IN_MEMORY_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 16
#: The same rows make the same bytes: no time of day is in them.
_DATE = (1980, 1, 1, 0, 0, 0)
_MODE = 0o644 << 16


class _Window(io.BytesIO):
    """The end of a file that is written piece by piece: positions are those in the whole file.

    Each picture's header is written again when its size and checksum are known, and only then the piece goes out. So
    the archive is one that every program reads, also those that want sizes in front.
    """

    def __init__(self) -> None:
        super().__init__()
        self._begins_at = 0

    def tell(self) -> int:
        return self._begins_at + super().tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._begins_at + super().seek(offset - self._begins_at, whence)

    def taken(self) -> bytes:
        """What was written since the last call; the window begins behind it."""
        piece = self.getvalue()
        super().seek(0)
        self.truncate()
        self._begins_at += len(piece)
        return piece


def write(rows: Iterable[Row]) -> Iterator[bytes]:
    """Blocks of the file. In memory are one picture, 1 MiB of the table, and of each picture its line of the index."""
    window = _Window()
    with (
        zipfile.ZipFile(window, "w", zipfile.ZIP_STORED) as archive,
        tempfile.SpooledTemporaryFile(TABLE_IN_MEMORY_BYTES) as table,
    ):
        table.write(csv_lines.BYTE_ORDER_MARK + csv_lines.line(COLUMNS))
        for row in rows:
            assert row.picture is not None
            archive.writestr(_entry(row.file, zipfile.ZIP_STORED), row.picture)  # JPEG does not shrink any further
            table.write(csv_lines.line(row.values().values()))
            yield window.taken()
        table.seek(0)
        _copy(table, archive)
    yield window.taken()


def _copy(table: IO[bytes], archive: zipfile.ZipFile) -> None:
    with archive.open(_entry(TABLE, zipfile.ZIP_DEFLATED), "w") as entry:
        while block := table.read(_BLOCK_BYTES):
            entry.write(block)


def _entry(name: str, compression: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.compress_type, entry.external_attr = compression, _MODE
    return entry
